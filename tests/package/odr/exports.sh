#!/usr/bin/env bash
# A shared library that uses cascada under hidden visibility: it exports nothing of it, and all that it has of it lies in
# the inline namespace of the version, so that two versions of cascada in one process share nothing.
#
#   exports.sh FOLDER VERSION COMPILER FLAGS...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
version=v${2//./_}
shift 2
"$@" -DRUN=run_first -fPIC -fvisibility=hidden -c "$here/part.cpp" -o part.o
"$@" -shared part.o -o part.so

nm -C part.o >names
grep -q "cascada::$version::" names || { echo "nothing of cascada::$version in the object: a broken check"; exit 1; }
if nm -D --defined-only part.so | grep cascada; then
  echo "The shared library exports the symbols above."
  exit 1
fi
# Names that std::thread and the like make of a type of the library have it too.
if sed "s/cascada::$version::/:/g" names | grep 'cascada::'; then
  echo "The names above lie outside cascada::$version."
  exit 1
fi
