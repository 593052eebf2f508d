#!/usr/bin/env bash
# The single header, alone, in a consumer: its answer is that of the consumer of many headers.
#
#   single_header.sh SOURCE FOLDER CONSUMER COMPILER FLAGS...
set -euo pipefail
"$1/cmake/single_header.py" "$2/cascada/cascada.hpp"
printf '#include "%s/tests/package/%s.cpp"\n' "$1" consumer "$1" second >"$2/consumer.cpp"
"${@:4}" -I"$2" "$2/consumer.cpp" -o "$2/consumer"
diff <("$2/consumer") <("$3")
