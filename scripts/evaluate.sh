#!/usr/bin/env bash
# Translate a data set's test sentences with a trained system and measure how often it agrees with the teacher.
#
#   bash scripts/evaluate.sh DATA METHOD [--dry-run]
#
# Writes runs/DATA/METHOD/{translations.txt,agreement.json}, each once; delete a file to have it made again. Where the data
# set's settings say so, the student's last checkpoints are averaged first (average.pt), and scores.txt has BLEU of the
# tokenised text as multi-bleu.perl counts it. SYSTEM=NAME names another folder than METHOD's, TEACHER=PATH another teacher
# than runs/DATA/teacher/checkpoint_best.pt.
. "$(dirname "$0")/common.sh"
read_data_and_method "$@"
folder=$work/${SYSTEM:-$method_name}
teacher=${TEACHER:-$work/teacher/checkpoint_best.pt}
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

if [ -n "$reversed" ]; then
    say "$data: $method_name is not evaluated: it translates into $source_lang"
    exit
fi
if [ ${#average[@]} -gt 0 ] && [ "$role" = student ]; then
    checkpoint=$folder/average.pt
    [ -f "$checkpoint" ] ||
        run nmt-kd average --inputs "$folder" "${average[@]}" --output "$checkpoint"
fi
say "$data: translating the test set with ${folder##*/}"
into "$folder/translations.txt" fairseq-generate "$work/data-bin" --user-dir "$root/nmt_kd" --path "$checkpoint" \
    --gen-subset test --source-lang "$source_lang" --target-lang "$target_lang" "${remove_subwords[@]}" "${generation[@]}" $(device_flags --fp16)
into "$folder/agreement.json" nmt-kd agreement "$checkpoint" "$teacher" "$work/data-bin" --json
if [ -n "${tokenised_bleu:-}" ]; then
    into "$folder/hypotheses.tokenised" nmt-kd translations "$folder/translations.txt" --lines H
    into "$folder/references.tokenised" nmt-kd translations "$folder/translations.txt" --lines T
    into "$folder/scores.txt" nmt-kd score --metrics multi-bleu --references "$folder/references.tokenised" \
        --systems "${folder##*/}=$folder/hypotheses.tokenised"
fi
