#!/usr/bin/env bash
# A consumer that pkg-config tells where cascada is: below PREFIX.
#
#   pkg_config.sh PREFIX VERSION EIGEN FOLDER COMPILER FLAGS...
set -euo pipefail
export PKG_CONFIG_PATH=$1/share/pkgconfig:$4
here=$(dirname "$0")
mkdir -p "$4"
printf 'Name: eigen3\nDescription: where the build found it\nVersion: 3.4.0\nCflags: -I%s\n' "$3" >"$4/eigen3.pc"
[ "$(pkg-config --modversion cascada)" = "$2" ] || { echo "cascada.pc has another version than $2"; exit 1; }
flags=$(pkg-config --cflags --libs cascada)
read -ra flags <<<"${flags//-I$3/-isystem $3}" # Eigen's own warnings are not ours
"${@:5}" "$here/consumer.cpp" "${flags[@]}" -o "$4/consumer"
"$4/consumer"
