#!/usr/bin/env bash
# One fuzzer: without FUZZ_SECONDS, so many runs from the same seed; with it, so long, on what earlier runs found too.
# Inputs that show a fault are left in FOLDER; `PROGRAM FILE` tries one again.
#
#   run.sh PROGRAM FOLDER RUNS ARGUMENTS...
set -euo pipefail
program=$1 folder=$2 runs=$3
shift 3
mkdir -p "$folder"
arguments=(-artifact_prefix="$folder/" -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 -verbosity=0 "$@")
if [ -n "${FUZZ_SECONDS:-}" ]; then
  mkdir -p "$folder/corpus"
  exec "$program" "${arguments[@]}" -max_total_time="$FUZZ_SECONDS" "$folder/corpus"
fi
exec "$program" "${arguments[@]}" -seed=1 -runs="$runs"
