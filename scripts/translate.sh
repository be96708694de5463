#!/usr/bin/env bash
# Translate plain text, a sentence a line, with a trained system of a data set.
#
#   echo "The train to Vienna leaves at half past six in the morning." | bash scripts/translate.sh phrasebook word_kd
#
# DATA is a file name in configs/data, METHOD one in configs/methods.
. "$(dirname "$0")/common.sh"
read_data_and_method "$@"
command=(
    fairseq-interactive "$work/data-bin" --user-dir "$root/nmt_kd" --path "$work/$method_name/checkpoint_best.pt"
    --bpe sentencepiece --sentencepiece-model "$work/subwords/subwords.model" --source-lang "$source_lang"
    --target-lang "$target_lang" "${generation[@]}" --buffer-size 100 $(device_flags --fp16)
)
if [ -n "$dry_run" ]; then
    run "${command[@]}"
    exit
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${command[@]}" 2>"$log" | sed -n 's/^D-[0-9]*\t[^\t]*\t//p' || { cat "$log" >&2 && fail "translation failed"; }
