#!/usr/bin/env bash
# The library in one program twice, compiled for different instructions: the two must share no symbol, or the linker
# would keep one's code for both and the program would die on a CPU that lacks them.
#
#   check.sh FOLDER FIRST SECOND COMPILER FLAGS...      builds FOLDER/pair; FIRST, SECOND: flags of the two, in one word
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
read -ra first_flags <<<"$2"
read -ra second_flags <<<"$3"
shift 3
compile=("$@")

"${compile[@]}" "${first_flags[@]}" -DRUN=run_first -c "$here/part.cpp" -o first.o
"${compile[@]}" "${second_flags[@]}" -DRUN=run_second -c "$here/part.cpp" -o second.o

# Every external symbol that an object defines (upper-case letters but U, and the weak and unique ones).
for object in first second; do
  nm $object.o | awk '$2 ~ /^[A-TVWu]$/ { print $3 }' | sort -u >$object.symbols
  grep -q cascada $object.symbols || { echo "$object.o defines nothing of cascada: a broken check"; exit 1; }
done
comm -12 first.symbols second.symbols | c++filt | sort -u >common.symbols

# What may name them: the type that a caller passes (a span of representatives, in functions of the standard library),
# and the empty constructors of constants that Eigen's header defines in every object at -O0.
passed='cascada::([a-z_0-9]+::)?representatives const'
allowed="^std::span<$passed,|^$passed\* std::(__)?to_address<"
allowed+='|^_ZNSt4spanIKN7cascada([0-9]+[a-z_0-9]+)?15representativesE' # c++filt does not know how clang 19 spells constraints
allowed+='|^Eigen::symbolic::|^Eigen::internal::(all_t::all_t|FixedInt<1>::)'
# Unoptimised objects hold Eigen's functions on registers (padd, ptranspose, ...). Those of one register type are shared.
registers='float __vector\((4|8|16)\)|__Float32x4_t'
case " ${compile[*]} " in
*' -O0 '*) allowed+="|Eigen::internal::p[a-z0-9_]+(<[^()]*($registers)|\(Eigen::internal::PacketBlock<($registers))"
           allowed+='|Eigen::internal::plogical_shift_left<23>' ;;
esac
if grep -E 'cascada|Eigen' common.symbols | grep -v -E "$allowed"; then
  echo "Both objects define the symbols above."
  exit 1
fi
# At -O0 both objects hold functions of the standard library such as std::vector<float>'s. No header can keep those
# apart; they are not this library's.
echo "$(wc -l <common.symbols) symbols in common, none of them code of the library."

"${compile[@]}" "${first_flags[@]}" "$here/pair.cpp" first.o second.o -pthread -o pair
