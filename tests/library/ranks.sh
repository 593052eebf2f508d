#!/usr/bin/env bash
# ranks.sh FOLDER COMPILER [FLAGS...]: compiles ranks.cpp into FOLDER and runs it on 2 and 4 processes. Skipped (77)
# where there is no Open MPI.
set -euo pipefail
folder=$1 compiler=$2
shift 2
if ! command -v mpirun >/dev/null || ! mpicxx --showme:version >/dev/null 2>&1; then
  echo "Skipped: no Open MPI (Debian's openmpi-bin and libopenmpi-dev)"
  exit 77
fi
mkdir -p "$folder"
# -isystem: its headers are not ours to warn of.
OMPI_CXX=$compiler mpicxx "$@" -Wno-cast-function-type "$(dirname "$0")/ranks.cpp" -o "$folder/ranks"
root=()
[ "$(id -u)" -ne 0 ] || root=(--allow-run-as-root)
for ranks in 2 4; do
  OMPI_MCA_btl_vader_single_copy_mechanism=none timeout 300 \
    mpirun "${root[@]}" --oversubscribe -np $ranks "$folder/ranks" | tee "$folder/lines"
  grep -q "^$ranks ranks: all results hold$" "$folder/lines"
done
