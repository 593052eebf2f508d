#!/usr/bin/env bash
# Fuzzes for a long time: each target so many seconds, on all cores. Installs what is missing (root or sudo). Inputs found
# are kept in build/fuzz, and a second run goes on from them.
#
#   tests/fuzz.sh [SECONDS=600] [arguments of ctest: -R selection]
set -euo pipefail
cd "$(dirname "$0")/.."

. cmake/setup.sh
install_packages cmake make clang libeigen3-dev catch2 nlohmann-json3-dev
install_libfuzzer
recent_cmake build/venv

seconds=${1:-600}
shift || true
jobs=$(nproc)
cmake --preset fuzz
cmake --build --preset fuzz --parallel "$jobs" --target fuzz
FUZZ_SECONDS=$seconds ctest --test-dir build/fuzz -L fuzz --parallel "$jobs" --no-tests=error --verbose "$@" |
  grep -E 'Test +#|stat::number_of_executed_units|ERROR|SUMMARY|tests (passed|failed)'
