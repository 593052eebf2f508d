#!/usr/bin/env bash
# Generation: SmolLM2-135M goes on with a long prompt, with dense attention and with the library's presets, compared.
set -euo pipefail
. "$(dirname "$0")/setup.sh"
. "$(dirname "$0")/longer_model.sh"

usage() {
  cat <<'EOF'
examples/generate.sh [options]

Fetches what is missing (packages, SmolLM2-135M, a text), builds the example engine, and goes on with a prompt, token by
token, each the likeliest. Prints a table and the texts, and leaves report.json in the output folder.

  --model DIR      folder with config.json, tokenizer.json and safetensors, one file or shards with their index: a
                   Llama, GPT-2, GPT-J or OPT (default: SmolLM2-135M)
  --prompt FILE    UTF-8 text to go on with (default: the beginning of the Debian Administrator's Handbook, and a
                   question about its first page)
  --length N       tokens in all: the prompt, cut to what fits, and the continuation (2048)
  --tokens N       tokens to go on with (64)
  --positions N    as if a Llama had so many positions: beyond its own it predicts badly, and only time counts
  --modes A,B,...  window, accurate, balanced, fast, pages (all), beside dense, each with a cache of its own. window:
                   near field and sink of balanced alone. pages: the pages of 16 keys whose smallest and largest keys
                   promise most, as in Quest (arXiv:2406.10774)
  --pages-read X   bytes that a step of pages reads, of dense's (0.3)
  --needle         also hides a sentence at ten depths of the text, and sees who remembers it at the end
  --threads N      threads (all of the machine)
  --output DIR     where the results go (build/generate)
  --help           this text
EOF
}

model='' text='' output='' length=2048 tokens=64 positions='' needle='' passed=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage && exit ;;
    --needle) needle=yes && shift && continue ;;
    --model | --prompt | --length | --tokens | --positions | --modes | --pages-read | --threads | --output)
      [ $# -ge 2 ] || fail "option $1 needs a value" ;;
    *) fail "unknown option $1; --help lists the options" ;;
  esac
  case $1 in
    --length | --tokens | --positions) [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || fail "option $1: $2 is no number" ;;
  esac
  case $1 in
    --model) model=$(realpath -m "$2") ;;
    --prompt) text=$(realpath -m "$2") ;;
    --output) output=$(realpath -m "$2") ;;
    --length) length=$2 ;;
    --tokens) tokens=$2 ;;
    --positions) positions=$2 ;;
    *) passed+=("$1" "$2") ;;
  esac
  shift 2
done
[ -z "$model" ] || require_model "$model"
[ -z "$text" ] || require_text "$text"
[ "$tokens" -lt "$length" ] || fail "option --length must be more than --tokens, $tokens"

cd "$(dirname "$0")/.."
output=${output:-$PWD/build/generate}

prepare() {
  install_tools
  [ -n "$model" ] || fetch_smollm2
  [ -n "$text" ] || fetch_handbook
  build_engine cascada-generate
}
with_lock prepare
model=${model:-build/smollm2-135m}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[ -z "$positions" ] || longer_model "$model" "$positions" "$scratch/model"
[ -z "$positions" ] || model=$scratch/model

# prompts KIND FILE TOKENS: those that leave room for TOKENS more.
prompts() {
  $python examples/tools/prompts.py "$1" "$model/tokenizer.json" "${text:-build/handbook.txt}" "$scratch/$2" \
    --length $((length - $3))
}
if [ -n "$text" ]; then prompts plain prompt "$tokens"; else prompts question prompt "$tokens"; fi
[ -z "$needle" ] || prompts needle needle.json 8

step "Running the model"
"$engine/examples/cascada-generate" --model "$model" --prompt "$scratch/prompt" --tokens "$tokens" \
  ${needle:+--needle "$scratch/needle.json"} --output "$output" ${passed[@]+"${passed[@]}"}
$python examples/tools/decode_report.py "$model/tokenizer.json" "$output/report.json"
echo
echo "Written: $output/report.json"
