#!/usr/bin/env bash
# Runs the program of a build, and installs the build: the program is all there is.
#
#   installs_alone.sh FOLDER PROGRAM
set -euo pipefail
"$1/$2"
rm -rf "$1/prefix"
cmake --install "$1" --prefix "$1/prefix" >/dev/null
installed=$(cd "$1/prefix" && find . -type f)
[ "$installed" = "./bin/$2" ] || { echo "Other than the program was installed: $installed"; exit 1; }
