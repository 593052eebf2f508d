# Sourced by the scripts of this folder: what they need before they run the engine. Functions want the repository's root
# as the working folder.
. "$(dirname "${BASH_SOURCE[0]}")/../cmake/setup.sh"
python=build/venv/bin/python

step() { echo "==> $*" >&2; }

fail() { # bad input: one sentence, exit code 2
  echo "$(basename "$0"): $*" >&2
  exit 2
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

# build_engine TARGET...: programs of the example engine, into build/examples/examples.
build_engine() {
  step "Building the example engine"
  cmake -S . -B build/examples -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-march=native \
    -DCASCADA_BUILD_TESTS=OFF -DCASCADA_BUILD_BENCH=OFF >build/examples.log 2>&1 &&
    cmake --build build/examples --target "$@" >>build/examples.log 2>&1 || {
    cat build/examples.log >&2
    exit 1
  }
}
