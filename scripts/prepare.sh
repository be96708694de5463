#!/usr/bin/env bash
# Get a data set's text, cut it into subwords and binarise it.
#
#   bash scripts/prepare.sh DATA [--dry-run]
#
# DATA is a file name in configs/data. Writes runs/DATA/{text,subwords,data-bin} (NMT_KD_RUNS names another folder than
# runs). Each step appears under its name only when it is complete, and is done once.
. "$(dirname "$0")/common.sh"
read_arguments "$@"
[ ${#names[@]} -eq 1 ] || fail "name one data set; there are: $(config_names data)"
load_data_config "${names[0]}"

# step NAME COMMAND...: run COMMAND with a new folder as its last argument, which becomes $work/NAME
step() {
    local name=$1 partial=$work/$1.partial
    shift
    [ ! -d "$work/$name" ] || [ -n "$dry_run" ] || return 0
    say "$data: $name"
    [ -n "$dry_run" ] || { rm -rf "$partial" && mkdir -p "$partial"; }
    run "$@" "$partial"
    [ -n "$dry_run" ] || mv "$partial" "$work/$name"
}

split_subwords() {
    python "$root/scripts/subwords.py" "$work/text" "$1" \
        --languages "$source_lang" "$target_lang" --vocabulary-size "$vocabulary_size"
}

binarise() {
    local log=$work/binarise.log
    fairseq-preprocess --source-lang "$source_lang" --target-lang "$target_lang" --joined-dictionary \
        --trainpref "$work/subwords/train" --validpref "$work/subwords/valid" --testpref "$work/subwords/test" \
        --workers "$(nproc)" --destdir "$1" >"$log" 2>&1 || { tail -3 "$log" >&2 && fail "binarising failed; see $log"; }
}

step text write_text
step subwords split_subwords
step data-bin binarise
