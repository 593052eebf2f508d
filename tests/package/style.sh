#!/usr/bin/env bash
# style.sh SOURCE_DIR FLAG...: all C++ is as clang-format has it, and clang-tidy has nothing to say of the library's headers;
# both of the versions that style.txt fixes. Skipped (77) where PyPI is out of reach and they are not there.
set -euo pipefail
cd "$1"
shift
. tests/pypi.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

tools=build/style
mkdir -p build
exec 9>build/style.lock
flock 9
if ! cmp -s tests/package/style.txt $tools/style.txt; then
  skip_without_pypi "$scratch"
  python3 -m venv $tools
  $tools/bin/pip install --quiet --no-deps -r tests/package/style.txt
  cp tests/package/style.txt $tools/style.txt
fi

find include cmake tests bench examples \( -name '*.[ch]pp' -o -name '*.hip' \) -print0 | xargs -0 $tools/bin/clang-format --dry-run --Werror
$tools/bin/clang-tidy --quiet tests/package/warnings.cpp -- "$@" 2>"$scratch/stderr" || { cat "$scratch/stderr" && exit 1; }

# A fault of either kind is seen, or nothing above says anything.
cp .clang-format .clang-tidy "$scratch"
echo 'long long product( int a ) { return static_cast<long long>(a * 1000); }' >"$scratch/fault.cpp"
if $tools/bin/clang-format --dry-run --Werror "$scratch/fault.cpp" 2>"$scratch/stderr"; then exit 1; fi
if $tools/bin/clang-tidy --quiet "$scratch/fault.cpp" -- "$@" >"$scratch/faults" 2>"$scratch/stderr"; then exit 1; fi
grep -q misplaced-widening-cast "$scratch/faults"
