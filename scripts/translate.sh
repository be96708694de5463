#!/usr/bin/env bash
# Translate plain text from standard input, one sentence per line, with a trained system.
#
#   bash scripts/translate.sh DATA METHOD [--dry-run]
#   echo "The train to Vienna leaves at half past six in the morning." | bash scripts/translate.sh phrasebook word_kd
#
# DATA is a file name in configs/data, METHOD one in configs/methods. SYSTEM=NAME uses the folder NAME instead of METHOD.
. "$(dirname "$0")/common.sh"
tokenising=() bpe_operations=''  # defaults, which the data set's file may override
read_data_and_method "$@"
languages=(--source-lang "$source_lang" --target-lang "$target_lang")
subwords=(--bpe sentencepiece --sentencepiece-model "$work/subwords/subwords.model")
[ -z "$bpe_operations" ] || subwords=(--bpe subword_nmt --bpe-codes "$work/subwords/subwords.codes")
folder=$work/${SYSTEM:-$method_name}
checkpoint=$folder/average.pt
[ -f "$checkpoint" ] || checkpoint=$folder/checkpoint_best.pt
command=(
    fairseq-interactive "$work/data-bin" --user-dir "$root/nmt_kd" --path "$checkpoint" "${subwords[@]}"
    "${languages[@]}" "${generation[@]}" --buffer-size 100 $(device_flags --fp16)
)
if [ -n "$dry_run" ]; then
    run "${command[@]}"
    exit
fi

# convert plain text to the format of the training data, and back
tokenise() { [ ${#tokenising[@]} -eq 0 ] && cat || python "$root/scripts/moses.py" --standard-input "$source_lang" "${tokenising[@]}"; }
detokenise() { [ ${#tokenising[@]} -eq 0 ] && cat || sacremoses --language "$target_lang" --quiet detokenize; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
tokenise | "${command[@]}" 2>"$log" | sed -n 's/^D-[0-9]*\t[^\t]*\t//p' | detokenise ||
    { cat "$log" >&2 && fail "translation failed"; }
