#!/usr/bin/env bash
# The paper's table (arXiv:2605.03110) for a model: what the cascade keeps and saves, what compressed attention costs.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

usage() {
  cat <<'EOF'
examples/paper_table.sh [options]

For each sequence length T and Gram threshold tau: r/T, additions, removals, Jaccard overlap of consecutive layers, Gram
operations saved, and per kind of attention the perplexity (decoders) or the embeddings' fidelity (encoders), beside
the paper's ranges. Leaves README.md, report.json and two pictures in the output folder.

  --model DIR           folder with config.json, tokenizer.json and safetensors, one file or shards with their index: a
                        Llama, GPT-2, GPT-J, OPT or BERT (SmolLM2-135M)
  --encoder             all-MiniLM-L6-v2 instead of SmolLM2-135M
  --text FILE           UTF-8 text (the first chapters of the Debian Administrator's Handbook)
  --lengths A,B,...     tokens (128,256,512,1024,2048,4096, as far as the model has positions)
  --thresholds X,Y,...  Gram thresholds in (0, 1] (0.7,0.75,0.8,0.85,0.9,0.95)
  --features NAME       rows that selection sees: residual, normalized, or keys: each KV head's own (residual)
  --modes A,B,...       decoders: dense, window, positions, random, literal, near-far-closed, near-far,
                        near-far-grouped (window,literal,near-far-closed,near-far); encoders: dense, literal, weighted,
                        all-queries, random (literal,weighted,all-queries,random). dense alone: the table without the
                        slow part
  --pieces N            encoders: pieces of the text that are embedded (64)
  --threads N           threads (all of the machine)
  --output DIR          where the results go (build/paper-table/MODEL)
  --help                this text
EOF
}

command="examples/paper_table.sh${*:+ $*}"
model='' encoder='' text='' output='' passed=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage && exit ;;
    --encoder) encoder=yes && shift && continue ;;
    --model | --text | --lengths | --thresholds | --features | --modes | --pieces | --threads | --output)
      [ $# -ge 2 ] || fail "option $1 needs a value" ;;
    *) fail "unknown option $1; --help lists the options" ;;
  esac
  case $1 in
    --model) model=$(realpath -m "$2") ;;
    --text) text=$(realpath -m "$2") ;;
    --output) output=$(realpath -m "$2") ;;
    *) passed+=("$1=$2") ;;
  esac
  case $1 in
    --lengths) [[ $2 =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || fail "option --lengths: $2 is no list of lengths" ;;
    --thresholds)
      [[ $2 =~ ^(0?\.[0-9]+|1)(,(0?\.[0-9]+|1))*$ ]] ||
        fail "option --thresholds: $2 is no list of numbers in (0, 1]" ;;
  esac
  shift 2
done
[ -z "$model" ] || [ -z "$encoder" ] || fail "--encoder names a model of its own; leave it out beside --model"
[ -z "$model" ] || require_model "$model"
[ -z "$text" ] || require_text "$text"

cd "$(dirname "$0")/.."

prepare() {
  install_tools
  if [ -z "$model" ]; then
    if [ -n "$encoder" ]; then
      fetch_minilm
      model=build/minilm-l6
    else
      fetch_smollm2
      model=build/smollm2-135m
    fi
  fi
  if [ -z "$text" ]; then
    fetch_handbook
    text=build/handbook.txt
  fi
  program=$($python examples/tools/paper_table.py program "$model")
  build_engine "$program"
}
with_lock prepare

$python examples/tools/paper_table.py run "$model" --text "$text" --program "$engine/examples/$program" \
  --output "${output:-build/paper-table/$(basename "$model")}" --command "$command" ${passed[@]+"${passed[@]}"}
