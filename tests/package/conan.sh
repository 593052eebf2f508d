#!/usr/bin/env bash
# Makes the Conan package, builds its consumer and runs it. Eigen is this machine's, at EIGEN: Conan Center is not asked.
# Skipped where PyPI, which Conan comes from, is out of reach.
#
#   conan.sh SOURCE FOLDER EIGEN COMPILER FLAGS
set -euo pipefail
. "$1/tests/pypi.sh"
mkdir -p "$2"
skip_without_pypi "$2"
"$2/venv/bin/pip" install --quiet conan==2.34.0

export CONAN_HOME=$2/home EIGEN=$3 CXX=$4 CXXFLAGS=$5
# Nothing is written beside the sources.
options=(-s compiler.cppstd=20 -s build_type=Debug --no-remote --build=missing
  -c "tools.cmake.cmake_layout:test_folder=$2/consumer" -c tools.cmake.cmaketoolchain:user_presets=)
"$2/venv/bin/conan" profile detect --force >"$2/log" 2>&1
for recipe in "$1/tests/package/conan_eigen" "$1"; do
  "$2/venv/bin/conan" create "$recipe" "${options[@]}" >>"$2/log" 2>&1 || { cat "$2/log"; exit 1; }
done
grep 'tokens kept' "$2/log"
