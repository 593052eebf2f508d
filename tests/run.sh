#!/usr/bin/env bash
# Builds and runs all tests: with g++, with clang, under AddressSanitizer and UndefinedBehaviorSanitizer, and for AArch64.
# Installs what is missing (root or sudo). Arguments go to ctest: tests/run.sh -L property
set -euo pipefail
cd "$(dirname "$0")/.."

. cmake/setup.sh
install_packages cmake make g++ clang libeigen3-dev catch2 nlohmann-json3-dev python3 python3-venv \
  clang-19 clang-tools-19 lld-19 llvm-19 libamdhip64-dev libboost-context-dev \
  pkgconf libc++-dev libc++abi-dev doxygen openmpi-bin libopenmpi-dev
install_libfuzzer
recent_cmake build/venv

presets='release clang asan'
if [ "$(uname -m)" = x86_64 ]; then # elsewhere the compilers' own instructions are enough
  install_packages g++-aarch64-linux-gnu qemu-user
  presets='release clang-avx2 asan aarch64'
fi

export CXX=${CXX:-g++}
jobs=$(nproc)
# All builds share the processors, so that none waits for another's last file. Tests are optimised as
# tests/CMakeLists.txt says. Examples and benchmarks, which only have to work here, less so; of clang's, few even run.
# Clang's tests try a fifth of the longer lists; g++'s try all.
make --jobs "$jobs" --file - <<END
all: $presets
$presets:
	+cmake --preset \$@ -DCMAKE_CXX_FLAGS_RELEASE="\$(level) -DNDEBUG" \$(less)
	+cmake --build --preset \$@
level = -O1
release: less = -DCASCADA_BENCH_LEVEL=-O0
clang clang-avx2: level = -O0
clang clang-avx2: less = -DCASCADA_FUZZ_LEVEL=-O0 -DCASCADA_TEST_EVERY=5
.PHONY: all $presets
END

# One run over all builds, so that the closing line counts them all.
echo "subdirs($presets)" >build/CTestTestfile.cmake
# One test more than processors: some wait for the network.
ctest --test-dir build --parallel $((jobs + 1)) --output-on-failure --no-tests=error "$@"
