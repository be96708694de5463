#!/usr/bin/env bash
# Distil a model end to end: prepare data, train a teacher, train a small student without and with it, translate, and
# print a table. Needs Python 3.11 or 3.12 and nothing else; a second run goes on where the first was stopped.
#
#   bash scripts/quickstart.sh                    about 10 minutes on two CPU cores, on an embedded corpus, offline
#   bash scripts/quickstart.sh --data multi30k    real text, from MULTI30K_DIR or the public repository
#
#   --data NAME        phrasebook (default), multi30k, or another file name in configs/data
#   --from DIR         folder with the data set's files, instead of a download
#   --methods "A B"    what to train beside the teacher (default: plain word_kd); all: every method there is
#   --dry-run          print the commands without running them
. "$(dirname "$0")/common.sh"
data=phrasebook methods="plain word_kd"
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) dry_run=--dry-run ;;
    --data | --from | --methods)
        [ $# -ge 2 ] || fail "$1 wants a value; see --help"
        case $1 in
        --data) data=$2 ;;
        --from) export MULTI30K_DIR=$2 ORIGINALS=$2 ;;
        --methods) methods=$2 ;;
        esac
        shift
        ;;
    *) fail "unknown option $1; see --help" ;;
    esac
    shift
done
load_data_config "$data"
if [ "$methods" = all ]; then
    methods="plain $(config_names methods | tr ' ' '\n' | grep -vx -e plain -e '.*teacher' | tr '\n' ' ')"
fi
for system in $methods; do load_method_config "$system"; done

script() { bash "$root/scripts/$1.sh" "${@:2}" $dry_run; }

[ -n "$dry_run" ] || bash "$root/scripts/setup.sh"
PATH="$root/.venv/bin:$PATH"
started=$SECONDS
script prepare "$data"
finished=()
for system in teacher $methods; do
    load_method_config "$system"
    [ -z "$corpus" ] || [ -d "$work/data-bin-$corpus" ] || script distill "$data" "$corpus"
    script train "$data" "$system"
    script evaluate "$data" "$system"
    finished+=("$system")
    # written anew after each, so that a long run shows what it has so far
    [ -n "$dry_run" ] || table=$(python "$root/scripts/results.py" "$work" "${finished[@]}")
done
[ -z "$dry_run" ] || exit 0
say "$data: results after $(((SECONDS - started) / 60)) minutes, without the setup"
echo "$table"
cat <<EOF

models: $work/{teacher,$(echo $methods | tr ' ' ,)}/checkpoint_best.pt
table:  $work/results.md (also as results.json)
try:    echo "The red table costs five euros." | bash scripts/translate.sh $data ${methods##* }
EOF
