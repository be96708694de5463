#!/usr/bin/env bash
# Translate a test set with a trained system and measure the system's agreement with the teacher.
#
#   bash scripts/evaluate.sh DATA METHOD [--dry-run]
#
# Writes translations.txt and agreement.json to runs/DATA/METHOD, and translations.NAME.txt for each further test set NAME.
# Existing files are kept; delete one to have it written again. If the data set's file says so, the student's last
# checkpoints are first averaged into average.pt, and tokenised BLEU, as computed by multi-bleu.perl, is written to
# scores.txt.
#
#   SYSTEM=NAME    evaluate the folder NAME instead of METHOD
#   TEACHER=PATH   the teacher's checkpoint (default: runs/DATA/teacher/checkpoint_best.pt)
. "$(dirname "$0")/common.sh"
read_data_and_method "$@"
folder=$work/${SYSTEM:-$method_name}
teacher=${TEACHER:-$work/teacher/checkpoint_best.pt}
checkpoint=$folder/checkpoint_best.pt

# into FILE COMMAND...: unless FILE exists, run the command with its output in FILE and its messages in FILE.log
into() {
    local file=$1
    shift
    if [ -n "$dry_run" ]; then
        run "$@"
        return
    fi
    [ ! -s "$file" ] || return 0
    "$@" >"$file.partial" 2>"$file.log" || { tail -3 "$file.log" >&2 && fail "$1 failed; see $file.log"; }
    mv "$file.partial" "$file"
}

if [ -n "$reversed" ]; then
    say "$data: not evaluating $method_name, because it translates into $source_lang"
    exit
fi
if [ ${#average[@]} -gt 0 ] && [ "$role" = student ]; then
    checkpoint=$folder/average.pt
    [ -f "$checkpoint" ] ||
        run nmt-kd average --inputs "$folder" "${average[@]}" --output "$checkpoint"
fi
say "$data: translating the test set with ${folder##*/}"
for number in "${!test_sets[@]}"; do
    subset=test${number#0} translations=$folder/translations.txt
    [ "$number" = 0 ] || translations=$folder/translations.${test_sets[number]}.txt
    into "$translations" fairseq-generate "$work/data-bin" --user-dir "$root/nmt_kd" --path "$checkpoint" \
        --gen-subset "$subset" --source-lang "$source_lang" --target-lang "$target_lang" \
        "${remove_subwords[@]}" "${generation[@]}" $(device_flags --fp16)
done
into "$folder/agreement.json" nmt-kd agreement "$checkpoint" "$teacher" "$work/data-bin" --json
if [ -n "${tokenised_bleu:-}" ]; then
    into "$folder/hypotheses.tokenised" nmt-kd translations "$folder/translations.txt" --lines H
    into "$folder/references.tokenised" nmt-kd translations "$folder/translations.txt" --lines T
    into "$folder/scores.txt" nmt-kd score --metrics multi-bleu --references "$folder/references.tokenised" \
        --systems "${folder##*/}=$folder/hypotheses.tokenised"
fi
