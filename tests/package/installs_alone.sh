#!/usr/bin/env bash
# Runs the program of a build, and installs the build: the program is all there is.
#
#   installs_alone.sh FOLDER PROGRAM
set -euo pipefail
"$1/$2"
rm -rf "$1/prefix"
cmake --install "$1" --prefix "$1/prefix" >/dev/null
[ "$(cd "$1/prefix" && find . -type f)" = "./bin/$2" ] || { echo 'More was installed:' && find "$1/prefix" -type f && exit 1; }
