#!/usr/bin/env bash
# Cascada's attention in torch and transformers. Skipped (77) only where PyPI is out of reach and they are not there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. examples/setup.sh
. tests/pypi.sh
. tests/refused.sh
. cmake/torch.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

add_cuda_libraries build/venv || true
{ [ -d build/smollm2-135m ] && $python -c 'import torch, transformers'; } 2>/dev/null || skip_without_pypi "$scratch"

# Quicker to build; a folder of its own, so that the user's stays.
export CASCADA_BUILD=build/torch/test-extension CASCADA_CXXFLAGS='-Og -march=native' PYTHONDONTWRITEBYTECODE=1
export OMP_WAIT_POLICY=passive # threads that wait leave the CPU to other tests
examples/torch/run.sh --length 300 --tokens 3 --rounds 1 --output "$scratch/run" | tee "$scratch/lines"
add_cuda_libraries build/venv || true # those that run.sh has installed
$python tests/engine/torch_attention.py examples/torch
$python tests/engine/convert_bin.py
$python tests/engine/torch_tables.py run "$scratch/run/report.json" "$scratch/lines"

table() { $python examples/torch/paper_table.py "$@"; }
table --model build/smollm2-135m --lengths 128 --thresholds 0.7,0.9 --output "$scratch/table" | tee "$scratch/lines"
$python tests/engine/torch_tables.py paper "$scratch/table" examples/results/paper-table/smollm2/report.json

run() { examples/torch/run.sh "$@"; }
failed 'unknown option --modes' run --modes dense
failed 'option --length needs a value' run --length
failed 'option --length: 0 is no number' run --length 0
failed 'option --dtype: double is not' run --dtype double
failed 'option --features: values is not' run --features values
failed 'has no config.json' run --model "$scratch"
failed 'there is no text' run --text "$scratch/absent"
failed 'cannot load' table --model "$scratch"
failed 'invalid parse value' table --model build/smollm2-135m --thresholds 2
echo 'Once upon a time' >"$scratch/story"
failed 'fewer than 128' table --model build/smollm2-135m --lengths 128 --text "$scratch/story"
run --help | grep -q -- '--quick'
