#!/usr/bin/env bash
# Cascada's attention as an operation of ggml graphs, beside ggml's own, on caches of every layout.
set -euo pipefail
. "$(dirname "$0")/../setup.sh"

usage() {
  cat <<'EOF'
examples/ggml/run.sh [options]

Installs what is missing, fetches ggml from PyPI, builds it with the program, and prints a line for every layout of a K/V
cache, for one query and for the last piece of a prompt: the error of Cascada's operation and of ggml's own attention
against attention in double, the operation's time, and how many times as long ggml's takes.

  --ggml DIR     a ggml of yours: a folder with include/, and src/ (its sources) or lib/ (libggml-base, libggml-cpu)
  --length N     tokens in the cache (4096)
  --queries N    tokens of the last piece of a prompt, at most N of --length (512)
  --threads N    threads (all that the process has)
  --rounds N     rounds, both sides in turn; the medians are printed (9)
  --check        instead of the table: what README.md says of bits, a far field, and refusals
  --help         this text
EOF
}

ggml='' length=4096 queries=512 passed=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage && exit ;;
    --check) passed+=("$1") && shift && continue ;;
    --ggml | --length | --queries | --threads | --rounds) [ $# -ge 2 ] || fail "option $1 needs a value" ;;
    *) fail "unknown option $1; --help lists the options" ;;
  esac
  case $1 in
    --ggml) ggml=$(realpath -m "$2") ;;
    *) [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || fail "option $1: $2 is no number from 1 to 999999" ;;
  esac
  case $1 in
    --length) length=$2 ;;
    --queries) queries=$2 ;;
    --threads | --rounds) passed+=("$1" "$2") ;;
  esac
  shift 2
done
[ "$queries" -le "$length" ] || fail "option --queries: $queries is more than the $length tokens of --length"
if [ -n "$ggml" ]; then
  [ -f "$ggml/include/ggml.h" ] || fail "$ggml has no include/ggml.h"
  [ -f "$ggml/src/CMakeLists.txt" ] || [ -d "$ggml/lib" ] || [ -d "$ggml/lib64" ] ||
    fail "$ggml has neither sources in src nor libraries in lib"
fi
cd "$(dirname "$0")/../.."
. cmake/ggml.sh

build=${CASCADA_BUILD:-build/ggml/program} flags=${CASCADA_CXXFLAGS:--O3}
prepare() {
  install_tools
  [ -n "$ggml" ] || fetch_ggml build/venv build/ggml/sources || exit 1
  step "Building the program"
  local folder=${ggml:-$PWD/build/ggml/sources}
  [ "$(cat "$build/of" 2>/dev/null)" = "$folder" ] || rm -rf "$build" # another ggml than before
  mkdir -p "$build" && echo "$folder" >"$build/of"
  cmake -S examples/ggml -B "$build" -DGGML_DIR="$folder" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-march=native \
    -DCMAKE_C_FLAGS_RELEASE="$flags -DNDEBUG" -DCMAKE_CXX_FLAGS_RELEASE="$flags -DNDEBUG" >"$build.log" 2>&1 &&
    cmake --build "$build" --parallel "$(nproc)" --target cascada-ggml >>"$build.log" 2>&1 || {
    cat "$build.log" >&2
    exit 1
  }
}
with_lock prepare
"$build/cascada-ggml" --length "$length" --queries "$queries" ${passed[@]+"${passed[@]}"}
