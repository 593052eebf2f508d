#!/usr/bin/env bash
# A program of several levels: its levels show the linker nothing that another part could take, and it runs on this CPU
# and on emulated ones that lack the higher levels, each time with the best that there is.
#
#   dispatch.sh FOLDER      with dispatch's build
set -euo pipefail
cd "$1"

libraries=(libkernels_*.a)
[ -e "${libraries[0]}" ] || { echo "no levels in $1: a broken check"; exit 1; }
for library in "${libraries[@]}"; do
  nm "$library" | awk 'NF == 3' >symbols
  grep -q ' [a-z] _ZN*K*St' symbols || { echo "nothing of the standard library in $library: a broken check"; exit 1; }
  shown=$(awk '$2 ~ /^[A-Zuvw]$/ { print $3 }' symbols)
  if [[ ! $shown =~ ^_ZN7cascada[^[:space:]]*9makers_ofIL[^[:space:]]*$ ]]; then
    echo "$library shows the linker other than its makers: $shown"
    exit 1
  fi
  if nm --undefined-only "$library" | grep cascada; then
    echo "$library needs the above, which another level may have compiled."
    exit 1
  fi
  if readelf --wide --sections "$library" | grep -E '\.(preinit|init|fini)_array|\.[cd]tors|GROUP'; then
    echo "$library has code that runs unasked, or functions that the linker keeps one of."
    exit 1
  fi
done

[ "$(uname -m)" = x86_64 ] || exec ./program armv8-a
# As the operating system sees it.
has() { local flag; for flag in "$@"; do grep -qw "$flag" /proc/cpuinfo || return 1; done; }
best=x86-64
if has avx2 fma bmi1 bmi2 f16c abm movbe; then best=x86-64-v3; fi
if [ $best = x86-64-v3 ] && has avx512f avx512bw avx512cd avx512dq avx512vl; then best=x86-64-v4; fi
sets=$(./program $best) || { echo "$sets"; exit 1; }
echo "$sets"

command -v qemu-x86_64 >/dev/null || { echo "skipped: no qemu-x86_64, which emulates other CPUs"; exit 77; }
while read -r cpu level; do
  on_cpu=$(qemu-x86_64 -cpu "$cpu" ./program "$level" 2>"$cpu.log") || { echo "$cpu: $on_cpu"; cat "$cpu.log"; exit 1; }
  echo "$cpu: $on_cpu"
  [ "${on_cpu#*, }" = "${sets#*, }" ] || { echo "The sets differ."; exit 1; }
done <<<'Nehalem x86-64
Haswell x86-64-v3'
