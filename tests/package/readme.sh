#!/usr/bin/env bash
# Builds and runs each C++ example of a text: every ```cpp fence has to be a whole program that exits with 0. With
# -fsyntax-only among the flags it is not run.
#
#   readme.sh TEXT FOLDER COMPILER FLAGS...
set -euo pipefail
mkdir -p "$2"
rm -f "$2"/example*
awk -v folder="$2" '
  /^```cpp$/     { name = folder "/example" ++count ".cpp"; next }
  /^```/         { name = "" }
  name           { print > name }' "$1"
[ -e "$2/example1.cpp" ] || { echo "$1 has no C++ example"; exit 1; }
for example in "$2"/example*.cpp; do
  "${@:3}" "$example" -o "${example%.cpp}"
  [[ " $* " = *" -fsyntax-only "* ]] || "${example%.cpp}"
done
