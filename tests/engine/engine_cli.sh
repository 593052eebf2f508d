#!/usr/bin/env bash
# engine_cli.sh CASCADA_EVALUATE CASCADA_EVALUATE_ENCODER: bad input gives one sentence and exit code 2, and leaves
# nothing behind; good input gives a report. cascada-frontier lies beside them. The models are the golden ones.
set -euo pipefail
evaluate=$1 evaluate_encoder=$2 frontier=$(dirname "$1")/cascada-frontier
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../refused.sh"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

seq 0 60 >tokens
for i in $(seq 0 119); do echo $((i * i % 89)); done >pieces # four of 30 tokens
# In limited time, because nothing may wait for a pipe's writer.
run() { timeout 300 "$evaluate" --model "$here/golden" --tokens tokens --length 61 --chunk 16 --window 16 --output out "$@"; }
run_encoder() {
  timeout 300 "$evaluate_encoder" --model "$here/golden/bert-bare" --tokens pieces --length 30 --pieces 4 --output out "$@"
}

failed=0

refused 'unknown option --bogus' run --bogus 1
refused 'needs a value' run --seed
refused 'no number' run --length many
refused '61 tokens; 62' run --length 62
refused '(0, 1]' run --threshold 0
refused '(0, 1]' run --threshold nan
refused 'at least 1' run --threads 0
refused 'at most 1024' run --threads 100000000
refused 'no number' run --threads 1e8
refused 'at least 1' run --chunk 0
refused 'at least 0' run --window -1
refused 'at least 0' run --sinks -1
refused 'whole number' run --leaf 2.5
refused 'whole number' run --moments 1e99
refused 'whole number' run --tile 4294967312
refused 'must divide' run --tile 3
refused '(0, 1)' run --open-above 1
refused '(0, 1)' run --open-above 0
refused '(0, 1]' run --leaf-threshold 1.5
refused '(0, 1]' run --threshold 1e-60
refused 'cannot be positions; there are order, keys' run --leaves positions
refused 'cannot be farthest' run --assign farthest
refused 'must be a text' run --assign 3
refused 'unknown mode sparse' run --modes sparse
refused 'named twice' run --modes near-far,dense,near-far
refused 'unknown option --budget' run --budget 128
refused 'unknown features' run --features values
refused 'cannot open' run --model absent
refused 'cannot open' run --tokens absent
refused 'cannot make' run --output tokens/out
refused 'cannot make' run --output /dev/null
refused 'cannot make' run --output ''
ln -s loop loop && mkfifo pipe && mkdir -p taken/report.json
refused 'cannot make' run --output loop
refused 'cannot make' run --output loop/out
refused 'cannot write taken/report.json' run --output taken
refused 'cannot write taken/report.json' run_encoder --output taken
for path in loop absent/tokens ''; do
  refused 'cannot open' run --tokens "$path"
  refused 'cannot open' run --model "$path"
  refused 'cannot open' run_encoder --tokens "$path"
done
for path in pipe . /dev/zero; do
  refused 'no regular file' run --tokens "$path"
  refused 'no regular file' run_encoder --tokens "$path"
done
for name in config.json model.safetensors; do # of a model's files, each in turn another thing than a file
  for thing in loop pipe folder; do
    rm -rf odd && cp -r "$here"/golden/opt-tied odd && rm odd/$name
    case $thing in
      loop) ln -s $name odd/$name ;;
      pipe) mkfifo odd/$name ;;
      folder) mkdir odd/$name ;;
    esac
    refused "cannot open odd/$name" run --model odd
  done
done
rm -rf odd && cp -r "$here"/golden/opt-tied odd
deep=$(printf '[%.0s' {1..20000})
printf '{"model_type": "opt", "x": %s' "$deep" >odd/config.json
refused 'nested too deeply' run --model odd
sed 's/"dropout": [0-9.]*/"dropout": NaN/' "$here"/golden/opt-tied/config.json >odd/config.json
refused 'has NaN, which JSON does not know' run --model odd
sed 's/"opt"/"a\\nb\\u001b[31m"/' "$here"/golden/opt-tied/config.json >odd/config.json
refused 'model_type is a?b?\[31m' run --model odd
mkdir cut && cp "$here"/golden/config.json cut && head -c 100000 "$here"/golden/model.safetensors >cut/model.safetensors
refused 'truncated' run --model cut
mkdir unknown && sed 's/"llama"/"mamba"/' "$here"/golden/config.json >unknown/config.json
refused 'model_type is mamba' run --model unknown
mkdir lying && cp "$here"/golden/opt-tied/model.safetensors lying
sed 's/"num_attention_heads": 4/"num_attention_heads": 7/' "$here"/golden/opt-tied/config.json >lying/config.json
refused 'does not divide hidden_size' run --model lying
sed 's/"ffn_dim": 66/"ffn_dim": 65/' "$here"/golden/opt-tied/config.json >lying/config.json
refused 'tensor model.decoder.layers.0.fc1.weight' run --model lying

refused 'unknown option --window' run_encoder --window 1
refused 'must be at least 2' run_encoder --pieces 1
refused '120 tokens; 150' run_encoder --pieces 5
refused 'too large' run_encoder --pieces 2000000000
refused '64 positions' run_encoder --length 65
refused '(0, 1]' run_encoder --thresholds 0.8,1.5
refused 'unknown mode near-far' run_encoder --modes near-far
refused 'unknown features' run_encoder --features values
refused 'model_type is llama' run_encoder --model "$here/golden"
refused 'model_type is bert' run --model "$here/golden/bert-bare"

refused_points() { # refused_points WORDS JSON
  echo "$2" >points.json
  refused "$1" "$frontier" --model "$here/golden" --tokens tokens --length 61 --points points.json --output out
}
echo '{"points": [{}]}' >good.json
refused 'unknown option --bogus' "$frontier" --bogus 1
refused 'cannot open' "$frontier" --model "$here/golden" --tokens tokens --points absent --output out
refused_points 'not a JSON object' '[]'
refused_points 'no list of points' '{"points": 3}'
refused_points 'point 2: settings are no JSON object' '{"points": [{}, 3]}'
refused_points 'point 1: there is no setting windw' '{"points": [{"windw": 16}]}'
refused_points 'point 1: window must be a whole number, at least 0' '{"points": [{"window": 16.5}]}'
refused_points 'point 1: open_above must lie in (0, 1)' '{"points": [{"open_above": "much"}]}'
refused_points 'point 1: tile must divide the chunk' '{"points": [{"tile": 3}]}'
refused_points 'point 1: causal must be true or false' '{"points": [{"causal": 1}]}'
refused_points 'point 1: name must be a text' '{"points": [{"name": 1}]}'
refused_points 'point 1: source cannot be none' '{"points": [{"source": "none"}]}'
refused_points 'point 1: options.queries == grouped needs options.open == none' '{"points": [{"queries": "grouped"}]}'
refused '61 tokens; 62' "$frontier" --model "$here/golden" --tokens tokens --length 60 --skip 2 --points good.json \
  --output out

main_job=$here/../../examples/run.sh
refused 'unknown option --bogus' "$main_job" --bogus
refused 'needs a value' "$main_job" --length
refused 'no config.json' "$main_job" --model "$scratch" --output out
cp "$here"/golden/gptj-sharded/config.json lying && touch lying/tokenizer.json && rm lying/model.safetensors
refused 'no model.safetensors and no model.safetensors.index.json' "$main_job" --model "$scratch/lying" --output out
refused 'no text' "$main_job" --text absent --output out
"$main_job" --help | grep -q -- --open-above

sweep=$here/../../examples/frontier.sh
refused 'unknown option --bogus' "$sweep" --bogus
refused 'needs a value' "$sweep" --texts
refused 'no list of lengths' "$sweep" --lengths 2048,long
refused 'no number' "$sweep" --windows 0
refused 'no file' "$sweep" --points absent
refused 'no config.json' "$sweep" --model "$scratch" --output out
"$sweep" --help | grep -q -- --presets

table=$here/../../examples/paper_table.sh
refused 'unknown option --bogus' "$table" --bogus
refused 'needs a value' "$table" --lengths
refused 'no list of lengths' "$table" --lengths 128,many
refused 'no list of numbers' "$table" --thresholds 0.7,1.2
refused 'no config.json' "$table" --model "$scratch" --output out
refused 'no text' "$table" --text absent --output out
refused 'leave it out' "$table" --encoder --model "$here/golden/bert-bare"
"$table" --help | grep -q -- --thresholds
"$evaluate" --help | grep -q -- --open-above
"$frontier" --help | grep -q leaf_threshold
"$evaluate_encoder" --help | grep -q -- --pieces

code=0
run >/dev/full 2>stderr || code=$?
[ $code -eq 2 ] && [ "$(grep -c 'cannot write to stdout' stderr)" -eq 1 ]

for features in residual normalized keys; do
  run --features $features --seed 7 >table 2>progress
  grep -q 'equals that of full selection' table
  grep -q '"set_equals_full_selection": true' out/report.json
  [ "$(ls out)" = report.json ]
  [ "$(grep -c warning progress)" -eq 0 ]
done
# Each KV head's keys have a selection of their own, and a row of the table.
[ "$(grep -c '"set": 1' out/report.json)" -eq "$(grep -c '"set": 0' out/report.json)" ]

echo '{"points": [{"name": "all", "open": "all", "window": 16, "chunk": 16},
                  {"name": "heads", "features": "keys", "source": "random", "window": 16, "chunk": 16}]}' >points.json
seq 0 60 >tokens
failed 'cannot write /dev/null' "$frontier" --model "$here/golden" --tokens tokens --points points.json --length 51 --output /dev/null
"$frontier" --model "$here/golden" --tokens tokens --length 51 --skip 10 --points points.json --output lines 2>progress
[ "$(wc -l <lines)" -eq 2 ]
# Where every leaf opens, attention is dense, bit for bit.
head -n 1 lines | grep -q '"divergence":0.0,.*"loss_above_dense":0.0,.*"share_of_dense_keys":1.0,.*"top1_agreement":1.0'
for model in gpt2-published gptj-partial gptj-sharded opt-post-norm llama-dynamic qwen2; do
  for i in $(seq 0 50); do echo $((i % 41)); done >tokens
  run --model "$here/golden/$model" --length 51 --sweep none >table 2>progress
  grep -q 'equals that of full selection' table
done
sed 's/"num_hidden_layers": 2/"num_hidden_layers": 1/' "$here"/golden/opt-tied/config.json >odd/config.json
run --model odd --length 51 --sweep none >table 2>progress
[ "$(grep -c 'warning: the model does not use 16 of its tensors: model.decoder.layers.1.fc1.bias, ' progress)" -eq 1 ]
run_encoder --thresholds 0.8,0.9 --features keys >table 2>progress
[ "$(grep -c '^weighted' table)" -eq 2 ]
[ "$(grep -c '"sets_equal_full_selection": true' out/report.json)" -eq 2 ]
exit $failed
