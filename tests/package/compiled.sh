#!/usr/bin/env bash
# A program whose kernels are in the library of cascada::compiled: it answers as the one that has all in itself, and its
# own object has none of them.
#
#   compiled.sh FOLDER      with find_package's build
set -euo pipefail
diff <("$1/compiled") <("$1/consumer")
kernels='select_all|cascade_cross_gram|attend_batch|attend_sequence'
defined() { find "$1" -name 'consumer.cpp.o' -exec nm {} + | grep -E " [A-TVWu] .*kernel[0-9]+(select|attention)[0-9]+($kernels)"; }
defined "$1/CMakeFiles/part.dir" >/dev/null || { echo 'No kernel where all of them should be: a broken check'; exit 1; }
if defined "$1/CMakeFiles/compiled.dir"; then
  echo 'The kernels above were compiled again.'
  exit 1
fi
