#!/usr/bin/env bash
# An unmodified LlamaForCausalLM of transformers with torch's own attention and with Cascada's, side by side.
set -euo pipefail
. "$(dirname "$0")/../setup.sh"

usage() {
  cat <<'EOF'
examples/torch/run.sh [options]

Installs what is missing (packages, torch, transformers, SmolLM2-135M, a text), builds the extension, and prints a line
for sdpa, torch's own attention, and for each preset: perplexity of the text, KL to sdpa, keys read, seconds of a
prompt, tokens/s of generate() with a KV cache, and how many of the generated tokens are sdpa's. Then a left-padded
batch of three prompts beside the prompts one by one. Leaves report.json in the output folder.

  --model DIR      folder of a causal language model that transformers loads, with tokenizer.json (SmolLM2-135M)
  --text FILE      UTF-8 text (the first chapters of the Debian Administrator's Handbook)
  --length N       tokens of the prompt (2048)
  --tokens N       tokens to generate (64)
  --rounds N       rounds, all attentions in turn; the medians are printed (3)
  --dtype NAME     float32, bfloat16 or float16 (float32)
  --features NAME  what presets select on: residual, or keys: each KV head's own (residual)
  --threads N      threads (torch's choice)
  --quick          256 tokens, 8 to generate, one round, unless given: whether it runs, not how fast
  --output DIR     where report.json goes (build/torch/report)
  --help           this text
EOF
}

model='' text='' output='' length='' tokens='' rounds='' quick='' passed=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage && exit ;;
    --quick) quick=yes && shift && continue ;;
    --model | --text | --length | --tokens | --rounds | --dtype | --features | --threads | --output)
      [ $# -ge 2 ] || fail "option $1 needs a value" ;;
    *) fail "unknown option $1; --help lists the options" ;;
  esac
  case $1 in
    --length | --tokens | --rounds | --threads)
      [[ $2 =~ ^[1-9][0-9]{0,6}$ ]] || fail "option $1: $2 is no number from 1 to 9999999" ;;
    --dtype)
      [[ $2 =~ ^(float32|bfloat16|float16)$ ]] || fail "option --dtype: $2 is not float32, bfloat16 or float16" ;;
    --features) [[ $2 =~ ^(residual|keys)$ ]] || fail "option --features: $2 is not residual or keys" ;;
  esac
  case $1 in
    --model) model=$(realpath -m "$2") ;;
    --text) text=$(realpath -m "$2") ;;
    --output) output=$(realpath -m "$2") ;;
    --length) length=$2 ;;
    --tokens) tokens=$2 ;;
    --rounds) rounds=$2 ;;
    *) passed+=("$1=$2") ;;
  esac
  shift 2
done
[ -z "$model" ] || require_model "$model"
[ -z "$text" ] || require_text "$text"
cd "$(dirname "$0")/../.."
. examples/torch/install.sh

prepare() {
  install_transformers
  [ -n "$model" ] || fetch_smollm2
  [ -n "$text" ] || fetch_handbook
  build_extension
}
with_lock prepare
add_cuda_libraries build/venv || true # for the programs outside of the lock

otherwise() { if [ -z "$quick" ]; then echo "$1"; else echo "$2"; fi; }
$python examples/torch/measure.py "${model:-build/smollm2-135m}" --text "${text:-build/handbook.txt}" \
  --length "${length:-$(otherwise 2048 256)}" --tokens "${tokens:-$(otherwise 64 8)}" \
  --rounds "${rounds:-$(otherwise 3 1)}" --output "${output:-build/torch/report}" ${passed[@]+"${passed[@]}"}
