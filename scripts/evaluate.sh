#!/usr/bin/env bash
# Translate a data set's test sentences with a trained system and measure how often it agrees with the teacher.
#
#   bash scripts/evaluate.sh DATA METHOD [--dry-run]
#
# Writes runs/DATA/METHOD/{translations.txt,agreement.json}, each once; delete a file to have it made again.
. "$(dirname "$0")/common.sh"
read_data_and_method "$@"
folder=$work/$method_name
checkpoint=$folder/checkpoint_best.pt

# into FILE COMMAND...: keep what the command prints in FILE, and its messages in FILE.log, unless FILE is there already
into() {
    local file=$1
    shift
    if [ -n "$dry_run" ]; then
        run "$@"
        return
    fi
    [ ! -s "$file" ] || return 0
    "$@" >"$file.partial" 2>"$file.log" || { tail -3 "$file.log" >&2 && fail "it failed; see $file.log"; }
    mv "$file.partial" "$file"
}

say "$data: translating the test set with $method_name"
into "$folder/translations.txt" fairseq-generate "$work/data-bin" --user-dir "$root/nmt_kd" --path "$checkpoint" \
    --gen-subset test --remove-bpe sentencepiece "${generation[@]}" $(device_flags --fp16)
into "$folder/agreement.json" nmt-kd agreement "$checkpoint" "$work/teacher/checkpoint_best.pt" "$work/data-bin" --json
