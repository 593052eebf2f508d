#!/usr/bin/env bash
# The library in one program twice, compiled for plain x86-64 and for AVX-512: the two must share no symbol, or the
# linker would keep the AVX-512 code for both and the program would die on a CPU without it.
#
#   check.sh FOLDER COMPILER FLAGS...      builds FOLDER/pair
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
shift
compile=("$@")

"${compile[@]}" -march=x86-64 -DRUN=run_plain -c "$here/part.cpp" -o plain.o
"${compile[@]}" -march=x86-64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -DRUN=run_avx512 \
  -c "$here/part.cpp" -o avx512.o

# Every external symbol that an object defines (upper-case letters but U, and the weak and unique ones).
for object in plain avx512; do
  nm $object.o | awk '$2 ~ /^[A-TVWu]$/ { print $3 }' | sort -u >$object.symbols
  grep -q cascada $object.symbols || { echo "$object.o defines nothing of cascada: a broken check"; exit 1; }
done
comm -12 plain.symbols avx512.symbols | c++filt | sort -u >common.symbols

# What may name them: the type that a caller passes (a span of representatives, in functions of the standard library),
# and the empty constructors of constants that Eigen's header defines in every object at -O0.
allowed='^std::span<cascada::representatives const,|^cascada::representatives const\* std::(__)?to_address<'
allowed+='|^_ZNSt4spanIKN7cascada15representativesE' # c++filt does not know how clang 19 spells constraints
allowed+='|^Eigen::symbolic::|^Eigen::internal::(all_t::all_t|FixedInt<1>::)'
if grep -E 'cascada|Eigen' common.symbols | grep -v -E "$allowed"; then
  echo "Both objects define the symbols above."
  exit 1
fi
# At -O0 both objects hold functions of the standard library such as std::vector<float>'s. No header can keep those
# apart; they are not this library's.
echo "$(wc -l <common.symbols) symbols in common, none of them code of the library."

"${compile[@]}" -march=x86-64 "$here/pair.cpp" plain.o avx512.o -pthread -o pair
