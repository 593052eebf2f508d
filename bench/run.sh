#!/usr/bin/env bash
# Cascada beside its peers, measured in one run on this machine.
set -euo pipefail

usage() {
  cat <<'EOF'
bench/run.sh [options]

Installs what is missing (packages, peers, SmolLM2-135M and a text), builds, measures Cascada and its peers in turn, and
leaves report.json and report.png in build/bench, and the stages' own benchmarks in build/bench/stages. A full run takes
less than 6 minutes on two cores once all is built, and as long again the first time. What cannot be had becomes a gap
in the report.

  --quick          few sizes, three repetitions: whether everything runs, not how fast
  --only A,B,...   these entries only, by their name in the report; no stage benchmarks
  --peers A,B,...  install only these of openblas, mkl, torch, onnxruntime, openvino, ggml, or none (all of them)
  --help           this text
EOF
}

fail() { # bad input: one sentence, exit code 2
  echo "run.sh: $*" >&2
  exit 2
}

quick='' only='' peers=openblas,mkl,torch,onnxruntime,openvino,ggml
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage && exit ;;
    --quick) quick=yes && shift && continue ;;
    --only | --peers) [ $# -ge 2 ] || fail "option $1 needs a value" ;;
    *) fail "unknown option $1; --help lists the options" ;;
  esac
  case $1 in
    --only) only=$2 ;;
    --peers) peers=$2 ;;
  esac
  shift 2
done
for peer in ${peers//,/ }; do
  case $peer in
    openblas | mkl | torch | onnxruntime | openvino | ggml | none) ;;
    *) fail "unknown peer $peer; there are openblas, mkl, torch, onnxruntime, openvino, ggml, none" ;;
  esac
done

cd "$(dirname "$0")/.."
out=build/bench
python=$out/venv/bin/python
. cmake/setup.sh
. cmake/torch.sh
. cmake/ggml.sh
. examples/longer_model.sh

step() { echo "==> $*" >&2; }
wants() { [[ ,$peers, == *,$1,* ]]; }
pip_install() { $python -m pip install --quiet "$@"; }
module_loads() { $python -c "import $1" 2>/dev/null; }

install_tools() {
  install_packages g++ make cmake pkgconf libeigen3-dev nlohmann-json3-dev libbenchmark-dev python3 python3-venv >&2
  if wants torch; then install_packages python3-dev >&2; fi # flex_attention is compiled on the spot
  if wants openblas; then install_packages libopenblas-dev >&2 || step "No OpenBLAS: a gap in the report"; fi
  recent_cmake build/venv >&2
  [ -x $python ] || python3 -m venv $out/venv
  module_loads matplotlib || pip_install numpy==2.4.6 matplotlib==3.11.2
}

# The second compiler: clang++ 19, or whatever clang++ there is.
find_clang() {
  command -v clang++-19 >/dev/null || install_packages clang-19 >&2 || install_packages clang >&2 || true
  command -v clang++-19 || command -v clang++ || true
}

install_peers() {
  if wants mkl && ! ls $out/venv/lib/libmkl_rt.so* >/dev/null 2>&1; then
    step "MKL from PyPI: about 320 MB to download"
    pip_install mkl || step "MKL cannot be had: a gap in the report"
  fi
  if wants onnxruntime && ! module_loads 'onnx, onnxruntime'; then
    step "onnxruntime and onnx from PyPI: about 40 MB to download"
    pip_install onnxruntime==1.32.0 onnx==1.23.2 || step "onnxruntime cannot be had: a gap in the report"
  fi
  if wants openvino && ! module_loads openvino; then
    step "OpenVINO from PyPI: about 60 MB to download"
    pip_install openvino==2026.4.1 || step "OpenVINO cannot be had: a gap in the report"
  fi
  if wants ggml; then install_ggml $out/venv || step "ggml cannot be had: a gap in the report"; fi
  if wants torch; then install_torch $out/venv || step "torch cannot be had: a gap in the report"; fi
}

# build FOLDER COMPILER TARGET...
build() {
  local folder=$1 compiler=$2
  shift 2
  cmake -S . -B "$folder" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_FLAGS=-march=native \
    -DCASCADA_BUILD_TESTS=OFF -DCASCADA_BUILD_EXAMPLES=OFF >"$folder.log" 2>&1 &&
    cmake --build "$folder" --parallel "$(nproc)" --target "$@" >>"$folder.log" 2>&1 || {
    cat "$folder.log" >&2
    exit 1
  }
}

# What a real model's layers hold, of `length` tokens; made once.
dump_layers() {
  [ -f "$layers" ] && return
  if ! [ -d build/smollm2-135m ] || ! [ -f build/handbook.txt ] ||
    ! build/venv/bin/python -c 'import tokenizers' 2>/dev/null; then
    step "SmolLM2-135M and a text, by way of the example"
    examples/run.sh --length 256 --modes dense --sweep none --output $out/example >&2
  fi
  step "Activations of $length tokens of SmolLM2-135M"
  build/venv/bin/python examples/tools/encode_text.py build/smollm2-135m/tokenizer.json build/handbook.txt \
    $out/tokens.txt
  longer_model build/smollm2-135m "$length" $out/model
  $out/gcc/bench/cascada-dump-layers --model $out/model --tokens $out/tokens.txt --length "$length" \
    --heads 4,5,14,15,24,25 --output "$layers"
}

run_stages() { # each stage's own benchmarks
  # 65536 tokens take half a minute: bench.decode has them, if asked.
  local stage seconds=0.1 left_out=/65536
  [ -z "$quick" ] || { seconds=0.001 && left_out='/65536|/16384'; }
  mkdir -p $out/stages
  for stage in gram select cascade cluster attention decode; do
    $out/gcc/bench/bench.$stage --benchmark_filter="-$left_out" --benchmark_min_time=$seconds \
      --benchmark_out=$out/stages/$stage.json --benchmark_out_format=json
  done
}

mkdir -p $out
install_tools
install_peers
step "Building"
build $out/gcc "${CXX:-g++}" all
clang=$(find_clang)
[ -z "$clang" ] || build $out/clang "$clang" cascada_bench

length=16384
[ -z "$quick" ] || length=2048
layers=$out/layers-$length.safetensors
dump_layers

if [ -z "$only" ]; then
  step "The stages, one by one"
  run_stages
fi
step "Cascada and its peers, in turn"
rm -f $out/report.json $out/report.png
export PYTHONDONTWRITEBYTECODE=1 TORCHINDUCTOR_CACHE_DIR=$PWD/$out/inductor
$python bench/compare.py --library $out/gcc/bench/libcascada_bench.so ${clang:+--other-library} \
  ${clang:+$out/clang/bench/libcascada_bench.so} --layers "$layers" --output $out/report.json ${quick:+--quick} \
  ${only:+--only "$only"} && answer=0 || answer=$?
[ $answer -eq 2 ] && exit 2
[ -f $out/report.json ] || exit $answer
$python bench/plot.py $out/report.json $out/report.png
echo
echo "Written: $out/report.json, report.png"
exit $answer
