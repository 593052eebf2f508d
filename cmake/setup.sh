# Sourced by tests/run.sh and examples/run.sh: installs what a bare machine lacks. Debian 12 and Ubuntu 24.04 names.

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# install_packages NAME...: Debian packages; needs apt and root or sudo only if one is missing.
install_packages() {
  command -v dpkg-query >/dev/null || return 0 # not Debian's family: what is missing shows in the next step
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  echo "Installing: ${missing[*]}"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# install_libfuzzer: the run-time libraries of clang's fuzzer and sanitizers, a package named by its version.
install_libfuzzer() { install_packages "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"; }

# recent_cmake FOLDER: a cmake of at least 3.25 on PATH, from PyPI into a virtual environment in FOLDER if need be.
recent_cmake() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n 's/^cmake version //p')
  [ -n "$version" ] && printf '3.25\n%s\n' "$version" | sort -V -C && return 0
  [ -x "$1/bin/cmake" ] || { python3 -m venv "$1" && "$1/bin/pip" install --quiet 'cmake>=3.25,<4'; }
  PATH=$(cd "$1/bin" && pwd):$PATH
}
