#!/usr/bin/env bash
# The page of examples/run.sh in headless Chromium. Skipped (77) only where there is no model or no Chromium to be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
. examples/setup.sh
. tests/pypi.sh
. tests/refused.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

[ -d build/smollm2-135m ] || skip_without_pypi "$scratch"
command -v chromium >/dev/null || with_lock install_packages chromium || true
command -v chromium >/dev/null || { echo "Skipped: there is no package chromium to be had" && exit 77; }

tokenizer=build/smollm2-135m/tokenizer.json data=$scratch/page.json
page() { $python examples/tools/page.py "$@"; }
check() { $python tests/engine/check_page.py "$@"; }
open_page() { # open_page PAGE VIEW: the browser's dump
  timeout 100 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$scratch/profile" \
    --virtual-time-budget=20000 --dump-dom "file://$1#$2" >"$scratch/dom" 2>"$scratch/chromium"
}

examples/run.sh --page --length 112 --window 16 --chunk 16 --output "$scratch"
check facts "$data"
open_page "$scratch/page.html" 'layer=5&head=3&token=100'
check dom "$data" "$scratch/dom" 5 3 100
open_page "$scratch/page.html" 'layer=30&head=1&token=x' # there are none: the view that a page opens with
check dom "$data" "$scratch/dom" 0 0 111

# By mouse and keyboard: click token 70, go one to the left and one layer down from layer 7, point at token 3.
cat "$scratch/page.html" - >"$scratch/moved.html" <<'END'
<script>
  element("clusters-70").click();
  element("layer").value = 7, element("layer").dispatchEvent(new Event("input"));
  for (const key of ["ArrowLeft", "ArrowDown"]) element("attended").dispatchEvent(new KeyboardEvent("keydown", { key }));
  document.body.append(`view: ${location.hash}`);
  element("clusters-3").dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
  document.body.append(` pointed: ${element("clusters-of").textContent}`);
  element("clusters").dispatchEvent(new MouseEvent("mouseleave"));
</script>
END
open_page "$scratch/moved.html" 'head=6'
check dom "$data" "$scratch/dom" 8 6 69
grep -q 'view: #layer=8&amp;head=6&amp;token=69 pointed: .*Token 3, ' "$scratch/dom"

# A page whose facts do not add up says so.
check spoil "$data" "$scratch"
disowned() { # disowned FACT SENTENCE
  page "$tokenizer" "$scratch/$1.json" "$scratch/$1.html"
  open_page "$scratch/$1.html" ''
  grep -q "<body data-ready=\"Layer 1: $2.\">" "$scratch/dom"
  grep -q '<p id="fault" role="alert" class="failed">Layer 1: ' "$scratch/dom"
}
disowned rep 'a token has no representative'
disowned additions "additions and removals differ from the library's report"
disowned leaves 'leaves are not the far field'
disowned opened "keys differ from the library's report"
disowned weights 'weights do not add up to 1'

# Whatever the text holds stays text: the end of a script, characters of several tokens.
$python - "$tokenizer" "$data" <<'END'
import json, sys
from tokenizers import Tokenizer
data = json.load(open(sys.argv[2]))
odd = Tokenizer.from_file(sys.argv[1]).encode("</script><b id='odd'>\n\n{{data}} 🜁 <!-- <script>").ids
data["tokens"][:len(odd)] = odd
json.dump(data, open(sys.argv[2], "w"))
END
page "$tokenizer" "$data" "$scratch/page.html"
open_page "$scratch/page.html" 'layer=5&head=3&token=100'
check dom "$data" "$scratch/dom" 5 3 100
[ "$(grep -c 'id="odd"' "$scratch/dom")" -eq 0 ]
sed 's/<[^>]*>//g' "$scratch/dom" >"$scratch/words"
grep -q '^{{data}} ␣…🜁 &lt;!-- &lt;script&gt;' "$scratch/words"

[ "$(grep -cE '(src|href) *=|url\(|@import|fetch\(' examples/tools/page.html)" -eq 0 ] # one file, no network
failed 'cannot decode' page "$tokenizer" "$scratch/absent" "$scratch/absent.html"
failed 'cannot decode' page "$tokenizer" "$tokenizer" "$scratch/absent.html"
failed 'cannot write' page "$tokenizer" "$data" "$scratch/absent/page.html"
[ ! -e "$scratch/absent.html" ]

# The program on tiny models: one sentence for bad input, which leaves nothing behind; facts that hold.
for i in $(seq 0 60); do echo $((i * i % 41)); done >"$scratch/tokens"
small() { # small MODEL ARGUMENT...
  "$engine/examples/cascada-page" --model "tests/engine/golden/$1" --tokens "$scratch/tokens" --length 51 --window 8 \
    --chunk 8 --tile 4 --output "$scratch/small" "${@:2}"
}
unread() { # unread WORDS ARGUMENT...
  local words=$1 code=0
  small . "${@:2}" 2>"$scratch/stderr" || code=$?
  [ $code -eq 2 ] && [ "$(grep -c '^cascada-page: ' "$scratch/stderr")" -eq 1 ] &&
    grep -q -- "$words" "$scratch/stderr" && [ ! -e "$scratch/small" ]
}
unread 'unknown option --modes' --modes dense
unread 'must be at most 512' --length 513
unread 'must be at least 2' --length 1
unread '61 tokens; 62' --length 62
unread 'has no head 99' --heads 0,99
unread 'has no head -1' --heads -1
unread 'no number' --heads 0,
unread 'cannot be keys: the page shows one set a layer' --features keys
unread 'must divide' --tile 3
unread 'cannot make' --output "$scratch/tokens/out"
for model in . gptj-partial qwen2; do
  small $model --heads 1
  check facts "$scratch/small/page.json"
done
