#!/usr/bin/env bash
# The main job: SmolLM2-135M on real text, with dense attention and with Cascada's, compared.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

usage() {
  cat <<'EOF'
examples/run.sh [options]

Fetches what is missing (packages, SmolLM2-135M, a text), builds the example engine, runs it, and leaves report.json
and plots in the output folder.

  --model DIR          folder with config.json, tokenizer.json and safetensors, one file or shards with their index: a
                       Llama, GPT-2, GPT-J or OPT (default: SmolLM2-135M)
  --text FILE          UTF-8 text (default: the first chapters of the Debian Administrator's Handbook)
  --length N           tokens to read (2048)
  --modes A,B,...      dense, window, positions, random, literal, near-far-closed, near-far, near-far-grouped,
                       balanced (all)
  --sweep X,Y,...      more thresholds for the modes that select, or none (0.5,0.7,0.9)
  --threads N          threads (all of the machine)
  --seed N             first seed of the five of mode random (1)
  --output DIR         where the results go (build/report)
  --page               instead of the report, page.html: a text of at most 512 tokens (256) with its representatives,
                       their clusters, how they move through the layers, and what each token's query attended to, with
                       --window 32 --chunk 32 --threshold 0.6 --open-above 0.03 unless given
  --heads A,B,...      with --page: query heads to show (the first of each KV head, at most three)
  --help               this text

What the modes share:
  --threshold X        Gram threshold tau in (0, 1] (0.8)
  --features NAME      rows that selection sees: residual, normalized, or keys: each KV head's own (residual)
  --assign NAME        which representative a token gets: the lowest or the nearest that covers it (lowest)
  --window N           near field behind a chunk, in tokens (128)
  --chunk N            tokens of a chunk (128)
  --sinks N            first tokens that every query attends to exactly (1)
  --leaves NAME        how a cluster's tokens form leaves: by order or by keys (keys)
  --leaf-threshold X   leaves by keys: least cosine with a leaf's first key, in (0, 1] (0.7)
  --leaf N             tokens of a leaf at most (16)
  --moments N          groups of key dimensions that correct a leaf's logit, or 0 (4)
  --summaries NAME     what leaves' means are kept as: multiplied, as rows are, bfloat16, or bytes (multiplied)
  --open-above X       share of the softmax above which a leaf opens, in (0, 1) (0.01)
  --tile N             tokens that open leaves together; divides the chunk (16)
EOF
}

model='' text='' output='' program=cascada-evaluate passed=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage && exit ;;
    --page) program=cascada-page && shift && continue ;;
    --model | --text | --output | --length | --modes | --sweep | --threads | --seed | --heads | --threshold | \
      --features | --assign | --window | --chunk | --sinks | --leaves | --leaf-threshold | --leaf | --moments | \
      --summaries | --open-above | --tile) [ $# -ge 2 ] || fail "option $1 needs a value" ;;
    *) fail "unknown option $1; --help lists the options" ;;
  esac
  case $1 in
    --model) model=$(realpath -m "$2") ;;
    --text) text=$(realpath -m "$2") ;;
    --output) output=$(realpath -m "$2") ;;
    *) passed+=("$1" "$2") ;;
  esac
  shift 2
done
[ -z "$model" ] || require_model "$model"
[ -z "$text" ] || require_text "$text"

cd "$(dirname "$0")/.."
output=${output:-$PWD/build/report}

prepare() {
  install_tools
  [ -n "$model" ] || fetch_smollm2
  [ -n "$text" ] || fetch_handbook
  build_engine $program
}
with_lock prepare
$python examples/tools/encode_text.py "${model:-build/smollm2-135m}/tokenizer.json" "${text:-build/handbook.txt}" \
  build/tokens.txt

step "Running the model"
"$engine/examples/$program" --model "${model:-build/smollm2-135m}" --tokens build/tokens.txt \
  --output "$output" ${passed[@]+"${passed[@]}"}
if [ $program = cascada-page ]; then
  $python examples/tools/page.py "${model:-build/smollm2-135m}/tokenizer.json" "$output/page.json" "$output/page.html"
  echo "Written: $output/page.html"
else
  $python examples/tools/plot.py "$output/report.json" "$output"
  echo
  echo "Written: $output/report.json, cascade.png, perplexity.png"
fi
