# Sourced by tests of programs and scripts, which have a folder $scratch: what bad input must lead to.

# failed WORDS COMMAND...: refused with exit code 2, in one sentence with these words.
failed() {
  local words=$1 code=0
  shift
  "$@" >"$scratch/stdout" 2>"$scratch/stderr" || code=$?
  [ $code -eq 2 ] && [ "$(wc -l <"$scratch/stderr")" -eq 1 ] && grep -q -- "$words" "$scratch/stderr" && return
  cat "$scratch/stderr" && return 1
}

# refused WORDS COMMAND...: the same, with nothing on stdout and no folder $scratch/out. If not, says so, sets failed=1 and
# goes on.
refused() {
  if ! failed "$@" || [ -s "$scratch/stdout" ] || [ -e "$scratch/out" ]; then
    echo "FAILED: ${*:2}"
    failed=1
  fi
}
