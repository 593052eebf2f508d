# Sourced by tests of programs and scripts, which have a folder $scratch.

# failed WORDS COMMAND...: refused with exit code 2, in one sentence with these words.
failed() {
  local words=$1 code=0
  shift
  "$@" >"$scratch/stdout" 2>"$scratch/stderr" || code=$?
  [ $code -eq 2 ] && [ "$(wc -l <"$scratch/stderr")" -eq 1 ] && grep -q -- "$words" "$scratch/stderr" && return
  cat "$scratch/stderr" && return 1
}
