# Sourced by tests that download something.

# skip_without_pypi FOLDER: leaves with 77, a skipped test, where PyPI is out of reach.
skip_without_pypi() {
  python3 -m venv "$1/venv"
  "$1/venv/bin/pip" download --quiet --no-deps -d "$1" idna==3.20 && return
  echo "Skipped: PyPI is out of reach"
  exit 77
}
