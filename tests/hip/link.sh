#!/bin/sh
# link.sh SOURCE BINARY: compiles a program for the host and gfx942, links it with the HIP runtime, runs it.
# Exit 77: no clang 19, no runtime, or (from the program itself) no GPU.
set -eu
command -v clang++-19 >/dev/null && command -v clang-offload-bundler-19 >/dev/null || exit 77
[ -e /usr/include/hip/hip_runtime_api.h ] || exit 77
here=$(cd "$(dirname "$0")/../.." && pwd)
clang++-19 -x hip --offload-arch=gfx942 -nogpulib -nogpuinc -std=c++20 -O3 -D__HIP_PLATFORM_AMD__ -DEIGEN_NO_HIP \
  -Wall -Wextra -Wno-pass-failed -I"$here/include" -isystem /usr/include/eigen3 "$1" -lamdhip64 -o "$2"
exec "$2"
