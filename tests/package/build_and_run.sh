#!/usr/bin/env bash
# build_and_run.sh PROGRAM COMPILER FLAGS...
set -euo pipefail
"${@:2}" -o "$1"
"$1"
