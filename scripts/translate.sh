#!/usr/bin/env bash
# Translate plain text from standard input, one sentence per line, with a trained system. Blank lines stay blank.
#
#   bash scripts/translate.sh DATA METHOD [--dry-run]
#   echo "The train to Vienna leaves at half past six in the morning." | bash scripts/translate.sh phrasebook word_kd
#
# DATA is a file name in configs/data, METHOD one in configs/methods. SYSTEM=NAME uses the folder NAME instead of METHOD.
. "$(dirname "$0")/common.sh"
read_data_and_method "$@"
[ -z "$not_evaluated" ] || fail "cannot translate with $method_name, because $not_evaluated"
languages=(--source-lang "$source_lang" --target-lang "$target_lang")
subwords=(--bpe sentencepiece --sentencepiece-model "$work/subwords/subwords.model")
[ -z "$bpe_operations" ] || subwords=(--bpe subword_nmt --bpe-codes "$work/subwords/subwords.codes")
folder=$work/${SYSTEM:-$method_name}
checkpoint=$folder/average.pt
[ -f "$checkpoint" ] || checkpoint=$folder/checkpoint_best.pt
choose_device
command=(
    fairseq-interactive "$work/data-bin" --user-dir "$root/nmt_kd" --path "$checkpoint" "${subwords[@]}"
    "${languages[@]}" "${generation[@]}" --buffer-size 100 "${device_flags[@]}"
)
if [ -n "$dry_run" ]; then
    run "${command[@]}"
    exit
fi

# convert plain text to the format of the training data, and back
tokenise() { [ ${#tokenising[@]} -eq 0 ] && cat || python "$root/scripts/moses.py" --standard-input "$source_lang" "${tokenising[@]}"; }
detokenise() { [ ${#tokenising[@]} -eq 0 ] && cat || sacremoses --language "$target_lang" --quiet detokenize; }

[ -f "$checkpoint" ] || fail "$folder has no checkpoint; train it first with:" \
    "${SYSTEM:+SYSTEM=$SYSTEM }bash scripts/train.sh $data $method_name"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Blank lines do not go through the model, which would translate them into a word. In other locales, sed and awk may differ
# in what they call blank.
not_blank() { LC_ALL=C sed -n '/[^[:space:]]/p'; }
with_blanks() {
    LC_ALL=C awk -v text="$scratch/text" '
        function next_lines() { while ((more = getline line < text) > 0 && line !~ /[^[:space:]]/) print "" }
        { next_lines(); print }
        END { next_lines() }'
}
tokenise >"$scratch/text"
LC_ALL=C grep -q '[^[:space:]]' "$scratch/text" || { with_blanks </dev/null && exit; }
not_blank <"$scratch/text" | "${command[@]}" 2>"$scratch/log" | sed -n 's/^D-[0-9]*\t[^\t]*\t//p' | detokenise | with_blanks ||
    { cat "$scratch/log" >&2 && fail "translation failed"; }
