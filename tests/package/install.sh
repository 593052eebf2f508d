#!/usr/bin/env bash
# Installs cascada from a build that has its own Eigen and no Catch2, into a folder that is then moved to PREFIX.
#
#   install.sh SOURCE FOLDER PREFIX EIGEN COMPILER
set -euo pipefail
rm -rf "$2" "$3"
cmake -S "$1" -B "$2" -DCMAKE_CXX_COMPILER="$5" -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON \
  -DCMAKE_PROJECT_INCLUDE="$1/tests/package/own_eigen.cmake" -DEIGEN="$4" >"$2.log" 2>&1 || { cat "$2.log"; exit 1; }
grep -q '^cascada: no tests, because Catch2 was not found$' "$2.log" || { echo 'No word about Catch2'; exit 1; }
cmake --install "$2" --prefix "$2/moved" >/dev/null
mv "$2/moved" "$3"
