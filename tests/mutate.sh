#!/usr/bin/env bash
# Tries every mutant of the CPU core and of the gfx942 kernels (tests/mutation): all have to be noticed. Installs what is
# missing (root or sudo).
#
#   tests/mutate.sh [cpu|hip] [--only WORD] [--sample COUNT --seed NUMBER]
set -euo pipefail
cd "$(dirname "$0")/.."

. cmake/setup.sh
install_packages cmake make g++ libeigen3-dev catch2 nlohmann-json3-dev python3 libboost-context-dev
recent_cmake build/venv

export CXX=${CXX:-g++}
cmake --preset release -DCASCADA_BUILD_BENCH=OFF -DCASCADA_BUILD_EXAMPLES=OFF -B build/mutate
targets=$(cmake --build build/mutate --target help) # not a pipe, which grep -q would break
if grep -q catch_main <<<"$targets"; then # version 2 of Catch2 has no library of its own
  cmake --build build/mutate --target catch_main
fi
read -ra libraries <build/mutate/tests/mutation/catch_libraries
backends='cpu hip'
case ${1:-} in cpu | hip) backends=$1 && shift ;; esac
for backend in $backends; do
  python3 tests/mutation/mutate.py "$backend" "build/mutate/$backend" "$@" "${libraries[@]}"
done
