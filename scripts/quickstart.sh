#!/usr/bin/env bash
# Distil a model end to end: prepare data, train a teacher, train small students with and without it, translate the test
# set, and print a table of the results. Rerun to resume.
#
#   bash scripts/quickstart.sh                    on a generated English-German corpus, without downloading data
#   bash scripts/quickstart.sh --data multi30k    on real text, from MULTI30K_DIR or the public repository
#   bash scripts/quickstart.sh --data captions --teacher Helsinki-NLP/opus-mt-en-fr    on your own text, with an existing teacher
#
#   --data NAME        data set: phrasebook (default), multi30k, or another file name in configs/data
#   --from DIR         take the data set's files from DIR instead of downloading them
#   --methods "A B"    methods to train students with (default: "plain word_kd", or "plain seq_kd" with one of
#                      the options below), or "all"
#   --teacher NAME     use this teacher instead of training one: a fairseq checkpoint or, for methods that train on its
#                      translations, any teacher that nmt-kd decode accepts (see scripts/distill.sh)
#   --translations FILE   use these translations of the training text instead of a teacher (see scripts/distill.sh)
#   --corpus NAME      train methods that use translations on runs/DATA/data-bin-NAME, a corpus made by nmt-kd assemble
#   --dry-run          print the commands instead of running them
#
# The script first sets up .venv with scripts/setup.sh, which needs Python 3.11 or 3.12 (PYTHON=/path/to/python selects
# one) and, for 3.11, a C++ compiler. With the default data set, two idle CPU cores and a fast network, the set-up takes 1
# to 2 minutes and the rest about 6. Models, logs and results.md are written to runs/NAME (NMT_KD_RUNS=DIR replaces runs).
. "$(dirname "$0")/common.sh"
data=phrasebook methods='' given_corpus='' given=''
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) dry_run=--dry-run ;;
    --data | --from | --methods | --teacher | --translations | --corpus)
        [ $# -ge 2 ] || fail "$1 needs a value; see --help"
        case $1 in
        --data) data=$2 ;;
        --from) export MULTI30K_DIR=$2 ORIGINALS=$2 ;;
        --methods) methods=$2 ;;
        --teacher) export TEACHER=$2 ;;
        --translations) export TRANSLATIONS=$2 ;;
        --corpus) given_corpus=$2 ;;
        esac
        shift
        ;;
    *) fail "unknown option $1; see --help" ;;
    esac
    shift
done
[ -z "${TEACHER:-}${TRANSLATIONS:-}$given_corpus" ] || given=yes
[ -n "$methods" ] || methods="plain $([ -n "$given" ] && echo seq_kd || echo word_kd)"
load_data_config "$data"
if [ "$methods" = all ]; then
    methods="plain $(config_names methods | tr ' ' '\n' | grep -vx -e plain -e '.*teacher' | tr '\n' ' ')"
fi

# with a given teacher, translations or corpus, a teacher is trained only for methods that need its distributions
systems=$methods
needs_teacher=
for system in $methods; do
    load_method_config "$system"
    [ -z "$not_evaluated" ] || fail "$system cannot be in the table of results, because $not_evaluated; train it with:" \
        "bash scripts/train.sh $data $system"
    ! uses_predictions || needs_teacher=$system
done
if [ -z "$given" ] || { [ -n "$needs_teacher" ] && [ -z "${TEACHER:-}" ]; }; then
    systems="teacher $methods"
elif [ -n "$needs_teacher" ] && [ ! -f "${TEACHER%%:*}" ]; then
    fail "$needs_teacher needs a fairseq checkpoint, which $TEACHER is not; choose methods that train on its translations," \
        "such as: --methods \"plain seq_kd\""
fi
if [ -z "$dry_run" ]; then
    [ -z "${TRANSLATIONS:-}" ] || [ -f "$TRANSLATIONS" ] || fail "--translations $TRANSLATIONS is not a file"
    [ -z "$given_corpus" ] || [ -d "$work/data-bin-$given_corpus" ] ||
        fail "--corpus $given_corpus: $work/data-bin-$given_corpus is missing; make it with nmt-kd assemble"
fi

script() { bash "$root/scripts/$1.sh" "${@:2}" $dry_run; }

packages=train # teachers that are not fairseq checkpoints need CTranslate2 and transformers, WMT and IWSLT a tokeniser
[ -z "${TEACHER:-}" ] || [ -f "${TEACHER%%:*}" ] || packages=dev
[ ${#tokenising[@]} -eq 0 ] || packages=dev
run bash "$root/scripts/setup.sh" $packages
PATH="$root/.venv/bin:$PATH"
NMT_KD_DEVICE=$(device) # once, because importing torch takes seconds
export NMT_KD_DEVICE
started=$SECONDS
script prepare "$data"

# distil SYSTEM: make the corpus that a system is trained on, or choose the given one
distil() {
    load_method_config "$1"
    unset CORPUS
    if [ -n "$corpus" ] && [ -n "$given_corpus" ]; then
        export CORPUS=$given_corpus
    elif [ -n "$corpus" ]; then
        script distill "$data" "$corpus"
    fi
}

if [ -n "$given" ] && [ "$systems" = "$methods" ]; then
    for system in $systems; do distil "$system"; done # so that a teacher that does not work fails before any training
fi
finished=()
for system in $systems; do
    distil "$system"
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

models: $(for system in $systems; do printf '%q ' "$work/$system/checkpoint_best.pt"; done)
table:  $work/results.md (also as results.json)
try:    head -3 $(printf %q "$work/text/test.$source_lang") | bash scripts/translate.sh $data ${finished[-1]}
EOF
