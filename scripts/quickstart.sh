#!/usr/bin/env bash
# Distil a model end to end: prepare data, train a teacher, train small students with and without it, translate the test
# set, and print a table of the results. Rerun to resume.
#
#   bash scripts/quickstart.sh                    on a generated English-German corpus, without downloading data
#   bash scripts/quickstart.sh --data multi30k    on real text, from MULTI30K_DIR or the public repository
#
#   --data NAME        data set: phrasebook (default), multi30k, or another file name in configs/data
#   --from DIR         take the data set's files from DIR instead of downloading them
#   --methods "A B"    methods to train students with (default: "plain word_kd"), or "all"
#   --dry-run          print the commands instead of running them
#
# The script first sets up .venv with scripts/setup.sh, which needs Python 3.11 or 3.12 (PYTHON=/path/to/python selects
# one) and, for 3.11, a C++ compiler. With the default data set, two idle CPU cores and a fast network, the set-up takes 1
# to 2 minutes and the rest about 6. Models, logs and results.md are written to runs/NAME (NMT_KD_RUNS=DIR replaces runs).
. "$(dirname "$0")/common.sh"
data=phrasebook methods="plain word_kd"
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) dry_run=--dry-run ;;
    --data | --from | --methods)
        [ $# -ge 2 ] || fail "$1 needs a value; see --help"
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

[ -n "$dry_run" ] || bash "$root/scripts/setup.sh" train
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
    # update the table after each system, so that results.md shows the results so far during a long run
    [ -n "$dry_run" ] || table=$(python "$root/scripts/results.py" "$work" "${finished[@]}")
done
[ -z "$dry_run" ] || exit 0
say "$data: results after $(((SECONDS - started + 30) / 60)) minutes (set-up excluded)"
echo "$table"
cat <<EOF

models: $work/{teacher,$(echo $methods | tr ' ' ,)}/checkpoint_best.pt
table:  $work/results.md (also as results.json)
try:    echo "The red table costs five euros." | bash scripts/translate.sh $data ${methods##* }
EOF
