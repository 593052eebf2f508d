#!/usr/bin/env bash
# Cascada's attention in ggml graphs. Skipped (77) only where PyPI is out of reach and ggml is not there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. examples/setup.sh
. tests/pypi.sh
. tests/refused.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

[ -d build/ggml/sources ] || skip_without_pypi "$scratch"

# Quicker to build; a folder of its own, so that the user's stays.
export CASCADA_BUILD=build/ggml/test CASCADA_CXXFLAGS=-Og
run() { examples/ggml/run.sh "$@"; }
run --length 700 --queries 70 --rounds 1 --threads 2 | tee "$scratch/lines"
[ "$(grep -c -E ' (flash attention|products)$' "$scratch/lines")" -eq 14 ] # every layout, for one query and for 70
run --check --threads 2

# A ggml of the user's, installed: here what was just built.
mkdir "$scratch/own"
ln -s "$PWD/build/ggml/sources/include" "$scratch/own/include"
ln -s "$PWD/$CASCADA_BUILD/ggml/src" "$scratch/own/lib"
CASCADA_BUILD=$scratch/build CASCADA_CXXFLAGS=-O0 run --ggml "$scratch/own" --length 64 --queries 9 --rounds 1

failed 'unknown option --model' run --model x
failed 'option --length needs a value' run --length
failed 'option --rounds: 0 is no number' run --rounds 0
failed 'option --queries: 512 is more than the 100' run --length 100
failed 'has no include/ggml.h' run --ggml "$scratch"
mkdir "$scratch/include" && touch "$scratch/include/ggml.h"
failed 'neither sources in src nor libraries in lib' run --ggml "$scratch"
failed 'no number from 1 on: x' "$CASCADA_BUILD/cascada-ggml" --length x
failed 'unknown option --lengths' "$CASCADA_BUILD/cascada-ggml" --lengths 1
run --help | grep -q -- '--ggml DIR'
