#!/usr/bin/env bash
# readme.sh for every page of a tree that has C++ examples, but its README, those of a device (tests/hip), and the one that
# links a library (tests/package).
#
#   snippets.sh TREE FOLDER COMPILER FLAGS...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
mapfile -t pages < <(find . -name '*.md' ! -path './build/*' ! -path ./README.md ! -path '*/hip/*' ! -name backends.md \
  -exec grep -l '^```cpp$' {} + | sort)
[ ${#pages[@]} -gt 1 ] || { echo "no pages with C++ examples in $1"; exit 1; }
for page in "${pages[@]}"; do
  echo "$page"
  "$here/readme.sh" "$page" "$2/${page//\//_}" "${@:3}"
done
