#!/usr/bin/env bash
# generate_cli.sh CASCADA_GENERATE: bad input gives one sentence and exit code 2, and leaves nothing behind; good input
# gives a report. The models are the golden ones.
set -euo pipefail
generate=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../refused.sh"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

for i in $(seq 0 99); do echo $((i * i % 41)); done >prompt
run() { # in limited time, because nothing may wait for a pipe's writer
  timeout 300 "$generate" --model "$here/golden" --prompt prompt --tokens 12 --output out "$@"
}

failed=0

refused 'unknown option --bogus' run --bogus 1
refused 'needs a value' run --threads
refused 'option --model is missing' "$generate" --prompt prompt
refused 'option --prompt is missing' "$generate" --model "$here/golden"
refused 'no number' run --tokens many
refused 'at least 2' run --tokens 1
refused 'at least 1' run --threads 0
refused 'unknown mode sparse; there are dense,window,accurate,balanced,fast,pages' run --modes sparse
refused 'named twice' run --modes fast,dense,fast
refused 'option --pages-read must lie in (0, 1)' run --pages-read 1
refused 'cannot open' run --model absent
refused 'cannot open' run --prompt absent
refused 'the prompt and --tokens are 129 tokens, and the model has 128 positions' run --tokens 29
refused 'model_type is bert' run --model "$here/golden/bert-bare"
touch empty && echo 'one' >words && echo 97 >unknown && mkdir -p taken/report.json
refused 'empty holds no tokens' run --prompt empty
refused 'is no token id: one' run --prompt words
refused 'cannot write taken/report.json' run --output taken
needle() { echo "$1" >needle.json && refused "$2" run --needle needle.json; }
refused 'cannot open' run --needle absent
needle '[]' 'not a JSON object'
needle '{"answer": [1]}' 'it needs answer, and prompts'
needle '{"answer": [1], "prompts": [{"tokens": [2]}]}' 'it needs answer, and prompts'
needle '{"answer": [1], "prompts": []}' 'something in it is empty'
needle '{"answer": [1], "prompts": [{"depth": 0.5, "tokens": []}]}' 'something in it is empty'
needle "{\"answer\": [1], \"prompts\": [{\"depth\": 0.5, \"tokens\": [$(seq -s, 0 120 | sed 's/[0-9]*/1/g')]}]}" \
  'a prompt with a needle and its answer are 129 tokens'

job=$here/../../examples/generate.sh
refused 'unknown option --bogus' "$job" --bogus
refused 'needs a value' "$job" --length
refused 'no number' "$job" --length many
refused 'option --positions: 0 is no number' "$job" --positions 0
refused 'must be more than --tokens, 64' "$job" --length 64
refused 'no config.json' "$job" --model "$scratch" --output out
refused 'no text' "$job" --prompt absent --output out
"$job" --help | grep -q -- --needle
"$generate" --help | grep -q -- --modes

code=0
run --prompt unknown 2>stderr >stdout || code=$? # known only when it is read
[ $code -eq 2 ] && grep -q 'token id 97' stderr

# Texts of a chunk and a window have no far field: every mode but pages is dense.
prompts='[{"depth": 0.25, "tokens": [1, 2, 3]}, {"depth": 0.5, "tokens": [1, 3]}]'
echo "{\"answer\": [1], \"prompts\": $prompts}" >needle.json
for model in '' gpt2-published gptj-partial opt-post-norm llama-linear qwen2; do
  head -n 40 prompt >short
  run --model "$here/golden/$model" --prompt short --needle needle.json --modes window,accurate,balanced,fast \
    >table 2>progress
  [ "$(grep -c ' 100.0% .* 100% .*[0-2]/2  *2/2' table)" -eq 5 ]
  [ "$(grep -c '"agreement_with_dense": 1.0' out/report.json)" -eq 5 ]
  [ "$(grep -c '"share_of_dense_bytes": 1.0' out/report.json)" -eq 5 ]
  [ "$(grep -c '"as_dense": 2' out/report.json)" -eq 5 ]
  [ "$(grep -c '"divergence_from_dense": 0.0' out/report.json)" -eq 5 ]
  grep -q '"prompt_tokens": 40' out/report.json
  grep -q 'continuation, all modes *12 tokens' progress
done
rm -r out
# Pages read no more than they may, and the report says what they were.
run --modes pages --pages-read 0.4 >table 2>progress
grep -q '"pages_read": 0.4' out/report.json
grep -q '^pages .* \(3[0-9]\|40\)%$' table
rm -r out
run --modes balanced >table 2>progress
[ "$(ls out)" = report.json ] && [ "$(grep -c '"name"' out/report.json)" -eq 2 ]
exit $failed
