#!/usr/bin/env bash
# Loss against time for many settings of near + far, on a whole model; and the library's presets on other texts.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

usage() {
  cat <<'END'
examples/frontier.sh [options]

Sweeps features, tau, assignment, leaves, opening, tile, window and chunk over prose and code from Debian packages, with
dense attention timed in turn, and draws what each setting loses against the time it takes. Baselines: window, blocks of
positions, random representatives. Leaves README.md, frontier.json and frontier.png in the output folder. All of it
takes hours; it can be stopped, and goes on where it was.

With --presets: measures the presets instead, on texts that they were not tuned on, and leaves presets.md and
presets.json.

  --presets         the presets, with the upper 95 % bound of their loss
  --quick           one text and length, few settings: minutes. With --presets: T = 512
  --lengths A,B     tokens (2048,4096,8192; presets 8192)
  --texts A,B       handbook, policy (prose), python, stl (code); for presets developers, jargon, bash (prose), perl,
                    jquery (code)
  --windows N       presets: windows of each text (2)
  --points FILE     the settings (examples/tools/frontier_points.json)
  --model DIR       folder with config.json, tokenizer.json and safetensors (SmolLM2-135M)
  --threads N       threads (all of the machine)
  --output DIR      where the results go (build/frontier)
  --help            this text
END
}

command="examples/frontier.sh${*:+ $*}"
model='' use=tuning quick='' texts='' output='' points='' passed=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage && exit ;;
    --presets) use=check && passed+=("$1") && shift && continue ;;
    --quick) quick=yes && passed+=("$1") && shift && continue ;;
    --lengths | --texts | --windows | --points | --model | --threads | --output)
      [ $# -ge 2 ] || fail "option $1 needs a value" ;;
    *) fail "unknown option $1; --help lists the options" ;;
  esac
  case $1 in
    --lengths) [[ $2 =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || fail "option --lengths: $2 is no list of lengths" ;;
    --windows | --threads) [[ $2 =~ ^[1-9][0-9]*$ ]] || fail "option $1: $2 is no number" ;;
  esac
  case $1 in
    --model) model=$(realpath -m "$2") ;;
    --output) output=$(realpath -m "$2") ;;
    --points) points=$(realpath -m "$2") ;;
    --texts) texts=$2 ;;
    *) passed+=("$1=$2") ;;
  esac
  shift 2
done
[ -z "$model" ] || require_model "$model"
[ -z "$points" ] || [ -f "$points" ] || fail "there is no file $points"

cd "$(dirname "$0")/.."

# fetch_text NAME: into build/texts/NAME.txt.
fetch_text() {
  [ -f "build/texts/$1.txt" ] && return
  mkdir -p build/texts
  if [ "$1" = handbook ]; then
    fetch_handbook
    cp build/handbook.txt build/texts/handbook.txt
    return
  fi
  local package folder=build/texts/unpacked
  package=$($python examples/tools/texts.py package "$1")
  step "The text $1 from Debian's package $package"
  unpack_package "$package" $folder
  $python examples/tools/texts.py extract "$1" $folder "build/texts/$1.txt"
  rm -r $folder
}

prepare() {
  local text
  install_tools
  [ -n "$model" ] || fetch_smollm2
  [ -n "$texts" ] || [ -z "$quick" ] || [ $use = check ] || texts=handbook
  [ -n "$texts" ] || texts=$($python examples/tools/texts.py list "$use")
  for text in ${texts//,/ }; do fetch_text "$text"; done
  build_engine cascada-frontier
}
with_lock prepare

$python examples/tools/frontier.py --model "${model:-build/smollm2-135m}" --texts-folder build/texts \
  --program "$engine/examples/cascada-frontier" --points "${points:-examples/tools/frontier_points.json}" \
  --output "${output:-build/frontier}" --command "$command" --texts "$texts" ${passed[@]+"${passed[@]}"}
