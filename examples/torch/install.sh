# Sourced after examples/setup.sh, with the repository's root as the working folder: torch and transformers in
# build/venv, and the extension.
. cmake/torch.sh

install_transformers() {
  install_tools
  install_packages python3-dev >&2 # Python's headers
  install_torch build/venv
  $python -c 'import transformers, ninja' 2>/dev/null && return
  step "transformers from PyPI into build/venv"
  $python -m pip install --quiet --no-warn-conflicts transformers==5.24.0 ninja==1.13.2
}

build_extension() {
  step "Building the extension"
  $python examples/torch/cascada_attention.py
}
