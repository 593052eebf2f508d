# Sourced by scripts that want ggml, after what says `step`: as PyPI's ggml-python carries it, 3 MB of sources.
ggml_python=ggml-python==0.0.45

# install_ggml VENV: the module, compiled for this machine.
install_ggml() {
  "$1/bin/python" -c 'import ggml' 2>/dev/null && return
  step "ggml from PyPI: 3 MB of sources, compiled for this machine"
  CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "$1/bin/python" -m pip install --quiet "$ggml_python"
}

# fetch_ggml VENV FOLDER: the sources of ggml alone.
fetch_ggml() {
  [ -f "$2/include/ggml.h" ] && return
  step "ggml from PyPI: 3 MB of sources"
  local download
  download=$(mktemp -d)
  "$1/bin/python" -m pip download --quiet --no-deps --no-binary :all: -d "$download" "$ggml_python" &&
    tar -xzf "$download"/*.tar.gz -C "$download" && mkdir -p "$(dirname "$2")" &&
    mv "$download"/*/vendor/ggml "$2" || { rm -rf "$download" && return 1; }
  rm -rf "$download"
}
