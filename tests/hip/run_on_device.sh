#!/usr/bin/env bash
# What an owner of an MI300X runs: builds the tests of the gfx942 backend for the chip, checks them against the CPU, and
# times whole calls beside the model. Leaves FOLDER/report.json to send back. Installs what is missing (root or sudo), but
# not ROCm.
#
#   tests/hip/run_on_device.sh [FOLDER]    build/on_device if none is given
#
# $HIPCXX is the compiler; else amdclang++, or the newest clang++ that knows the chip. $ROCM_PATH: /opt/rocm if not given.
# Exit code: 0 all passed; 1 some did not, or could not run; 77 no compiler, no HIP runtime, or no gfx942.
set -euo pipefail
folder=$(realpath -m "${1:-$(dirname "$0")/../../build/on_device}")
cd "$(dirname "$0")/../.."

. cmake/setup.sh
install_packages libeigen3-dev catch2 python3

# stop SENTENCE: there is nothing to build with, or to run on.
stop() {
  echo "$1" >&2
  exit 77
}

rocm=${ROCM_PATH:-/opt/rocm}
target=(-x hip --offload-arch=gfx942 -nogpulib -nogpuinc)
compiler=
for candidate in ${HIPCXX:-amdclang++ "$rocm/bin/amdclang++" "$rocm/llvm/bin/clang++" clang++-22 clang++-19 clang++}; do
  "$candidate" "${target[@]}" -c /dev/null -o /dev/null 2>/dev/null && compiler=$candidate && break
done
[ -n "$compiler" ] || stop 'No compiler for gfx942 was found: install ROCm, or clang 19 with its tools and lld.'
headers=/usr
[ -e "$rocm/include/hip/hip_runtime_api.h" ] && headers=$rocm
[ -e "$headers/include/hip/hip_runtime_api.h" ] || stop 'No HIP runtime was found: install ROCm, or libamdhip64-dev.'

flags=(-std=c++20 -O2 -Iinclude -Iexamples -Itests -isystem /usr/include/eigen3 -Wall -Wextra -Wno-pass-failed)
hip=("${target[@]}" -D__HIP_PLATFORM_AMD__ -DEIGEN_NO_HIP -include cascada/hip.hpp)
runtime=(-lamdhip64)
if [ "$headers" != /usr ]; then
  hip+=(-isystem "$headers/include")
  runtime=("-L$headers/lib" "-Wl,-rpath,$headers/lib" -lamdhip64)
fi
catch=(-lCatch2Main -lCatch2)
mkdir -p "$folder"
rm -f "$folder"/*.{json,jsonl,txt,xml,status}

# build NAME SOURCE LIBRARY...
build() {
  echo "Building $1"
  "$compiler" "${flags[@]}" "${hip[@]}" -c "$2" -o "$folder/$1.o"
  "$compiler" "$folder/$1.o" "${@:3}" "${runtime[@]}" -o "$folder/$1"
}

# Files of a program share most of what takes long to compile.
tests=(selection attention)
printf '#include "hip/%s.cpp"\n' cascade growing >"$folder/selection.cpp"
printf '#include "hip/%s.cpp"\n' attention chains opening decode layouts merge >"$folder/attention.cpp"

build times tests/hip/times.cpp
if ! "$folder/times" --device >"$folder/device.json"; then
  for source in examples/hip_layers "${tests[@]/#/$folder/}"; do
    echo "Compiling $source.cpp"
    "$compiler" "${flags[@]}" "${hip[@]}" -fsyntax-only "$source.cpp"
  done
  stop 'No gfx942 was found: the program that times is built, the others compile, nothing was run.'
fi
if [ -e /usr/include/catch2/catch.hpp ]; then # version 2 has no library of its own
  "$compiler" -std=c++20 -O1 -w -c tests/catch_main.cpp -o "$folder/catch_main.o"
  catch=("$folder/catch_main.o")
fi
build layers examples/hip_layers.cpp -pthread
for program in "${tests[@]}"; do
  build "$program" "$folder/$program.cpp" "${catch[@]}" -pthread
done

"$compiler" --version | head -n 1 >"$folder/compiler.txt"

# run NAME PROGRAM ARGUMENT...: keeps what it says and how it ends.
run() {
  local status=0
  echo "Running $1"
  "$folder/$2" "${@:3}" >"$folder/$1.txt" 2>&1 || status=$?
  echo "$status" >"$folder/$1.status"
}

run layers layers
run ragged_layers layers 777 896 3
# These give the chip memory of the host.
if HSA_XNACK=1 "$folder/times" --device | grep -q '"reads host memory": true'; then
  for program in "${tests[@]}"; do
    HSA_XNACK=1 run "$program" "$program" -r junit -o "$folder/$program.xml"
  done
else
  echo 'The chip cannot read memory of the host (HSA_XNACK=1): tests of selection and attention did not run.' | tee "$folder/host_memory.txt" >&2
  echo 1 >"$folder/host_memory.status"
fi
echo 'Running times'
"$folder/times" >"$folder/times.jsonl"

status=0
python3 tests/hip/device_report.py "$folder" >"$folder/report.json" || status=$?
echo "$([ "$status" -eq 0 ] && echo 'All passed' || echo 'NOT all passed'): $folder/report.json"
exit "$status"
