#!/usr/bin/env bash
# Builds and runs all tests: with g++, with clang, under AddressSanitizer and UndefinedBehaviorSanitizer, and for AArch64.
# Installs what is missing (root or sudo). Arguments go to ctest: tests/run.sh -L property
set -euo pipefail
cd "$(dirname "$0")/.."

. cmake/setup.sh
install_packages cmake make g++ clang libeigen3-dev catch2 nlohmann-json3-dev python3 python3-venv \
  clang-19 clang-tools-19 lld-19 llvm-19 libamdhip64-dev libboost-context-dev
# The newest that Debian 12 has, for the gates of gfx942's code; Ubuntu 24.04 has none.
if apt-cache show clang-22 >/dev/null 2>&1; then install_packages clang-22; fi
install_libfuzzer
recent_cmake build/venv

presets='release clang asan'
if [ "$(uname -m)" = x86_64 ]; then # elsewhere the compilers' own instructions are enough
  install_packages g++-aarch64-linux-gnu qemu-user
  presets='release clang-avx2 asan aarch64'
fi

export CXX=${CXX:-g++}
jobs=$(nproc)
for preset in $presets; do
  cmake --preset "$preset"
  cmake --build --preset "$preset" --parallel "$jobs"
done

# One run over all builds, so that the closing line counts them all.
echo "subdirs($presets)" >build/CTestTestfile.cmake
ctest --test-dir build --parallel "$jobs" --output-on-failure --no-tests=error "$@"
