# Sourced by scripts that want torch, after what says `step`: from PyPI into a virtual environment.

# add_cuda_libraries VENV: torch's wheel wants CUDA's libraries to load, though nothing here runs on a GPU. A toolkit has
# most of them. Fails where there is no toolkit.
add_cuda_libraries() {
  local nvcc folder
  nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
  for folder in "$1"/lib/python3*/site-packages/nvidia/*/lib \
    ${nvcc:+"$(dirname "$(dirname "$(readlink -f "$nvcc")")")"/{lib64,extras/CUPTI/lib64}}; do
    [ -d "$folder" ] && LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(realpath "$folder")
  done
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
  [ -n "$nvcc" ]
}

# install_torch VENV: and what it needs to load, LD_LIBRARY_PATH included. Fails where it cannot be had.
install_torch() {
  local toolkit=''
  add_cuda_libraries "$1" && toolkit=yes
  "$1/bin/python" -c 'import torch' 2>/dev/null && return
  if [ -n "$toolkit" ]; then
    step "torch 2.15 from PyPI: about 1.2 GB to download, the rest of CUDA from this machine's toolkit"
    "$1/bin/python" -m pip install --quiet --no-deps --no-warn-conflicts torch==2.15.0 nvidia-nccl-cu13 nvidia-cufile \
      nvidia-cusparselt-cu13 nvidia-nvshmem-cu13 && "$1/bin/python" -m pip install --quiet --no-warn-conflicts filelock \
      typing_extensions sympy mpmath networkx jinja2 fsspec && add_cuda_libraries "$1" || true
    "$1/bin/python" -c 'import torch' 2>/dev/null && return
  fi
  step "torch 2.15 from PyPI with the CUDA libraries it wants: about 3 GB to download"
  "$1/bin/python" -m pip install --quiet torch==2.15.0 && "$1/bin/python" -c 'import torch'
}
