#!/usr/bin/env bash
# Memory and time of models of the paper's sizes on this machine, with random weights.
set -euo pipefail

usage() {
  cat <<'END'
examples/full_size.sh [options]

Writes checkpoints of GPT-J 6B's and OPT 6.7B's shape with random 16-bit weights (12 and 13 GB, one at a time, deleted
afterwards), runs the example engine on 512 random tokens, and writes peak memory and seconds into full-size.json.
Random weights: nothing is said about savings or quality.

  --models A,B      gpt-j-6b, opt-6.7b (both)
  --length N        tokens (512)
  --modes A,B,...   modes of attention, as run.sh has them (dense,near-far)
  --threads N       threads (all of the machine)
  --scratch DIR     where the checkpoints are for a while (build/full-size)
  --output FILE     where the result goes (build/full-size.json)
  --help            this text
END
}

. "$(dirname "$0")/setup.sh"

output='' passed=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage && exit ;;
    --models | --length | --modes | --threads | --scratch | --output) [ $# -ge 2 ] || fail "option $1 needs a value" ;;
    *) fail "unknown option $1; --help lists the options" ;;
  esac
  case $1 in
    --output) output=$(realpath -m "$2") ;;
    --scratch) passed+=("$1" "$(realpath -m "$2")") ;;
    *) passed+=("$1" "$2") ;;
  esac
  shift 2
done

cd "$(dirname "$0")/.."
output=${output:-$PWD/build/full-size.json}
install_tools
build_engine cascada-evaluate
$python examples/tools/full_size.py "$engine/examples/cascada-evaluate" "$output" ${passed[@]+"${passed[@]}"}
echo "Written: $output"
