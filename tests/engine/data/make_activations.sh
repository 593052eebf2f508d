#!/usr/bin/env bash
# Makes activations.safetensors: the residual stream entering layers 23-26 of SmolLM2-135M for the first 448 tokens of
# the default text, BF16. Run examples/run.sh first: it fetches the model and configures the build.
set -euo pipefail
cd "$(dirname "$0")/../../.."
cmake --build build/examples --target cascada-dump-activations
build/venv/bin/python examples/tools/encode_text.py build/smollm2-135m/tokenizer.json build/handbook.txt \
  build/handbook.tokens
build/examples/examples/cascada-dump-activations --model build/smollm2-135m --tokens build/handbook.tokens \
  --length 448 --layers 23,24,25,26 --output tests/engine/data/activations.safetensors
