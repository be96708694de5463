#!/usr/bin/env bash
# Translate the test sets with a trained system and measure the system's agreement with the teacher.
#
#   bash scripts/evaluate.sh DATA METHOD [--dry-run]
#
# Writes translations.txt and agreement.json to runs/DATA/METHOD, and translations.NAME.txt and agreement.NAME.json for each
# further test set NAME. Without a teacher's checkpoint, the agreement is not measured. Results are recomputed only if the
# checkpoint, the teacher, the data or the settings of the search have changed. If the data set's settings say so, the
# student's last checkpoints are first averaged into average.pt, and tokenised BLEU, as computed by multi-bleu.perl, is
# written to scores.txt.
#
#   SYSTEM=NAME    evaluate the folder NAME instead of METHOD
#   TEACHER=PATH   the teacher's checkpoint (default: runs/DATA/teacher/checkpoint_best.pt, if it exists)
. "$(dirname "$0")/common.sh"
read_data_and_method "$@"
folder=$work/${SYSTEM:-$method_name}
teacher=${TEACHER:-$work/teacher/checkpoint_best.pt}
checkpoint=$folder/checkpoint_best.pt

# into FILE COMMAND...: run the command with its output in FILE and its messages in FILE.log, unless FILE exists and was made
# from what $made_of lists
into() {
    local file=$1
    shift
    if [ -n "$dry_run" ]; then
        run "$@"
        return
    fi
    [ -s "$file" ] && ! is_stale "$file" || renew "$file" "$@"
}

renew() {
    local file=$1
    "${@:2}" >"$file.partial" 2>"$file.log" || { tail -3 "$file.log" >&2 && fail "$2 failed; see $file.log"; }
    mv "$file.partial" "$file"
    python "$root/scripts/record.py" write "$(record_of "$file")" "${made_of[@]}"
}

record_of() { echo "$folder/records/${1##*/}.json"; }

# is_stale FILE: whether a result was made from anything other than what $made_of lists; if so, print the difference
is_stale() {
    local changed
    if [ -f "$(record_of "$1")" ]; then
        changed=$(differences "$(record_of "$1")" "${made_of[@]}") || exit
    elif [ -f "$checkpoint" ] && [ "$checkpoint" -nt "$1" ]; then # made by an earlier version
        changed="the checkpoint is newer"
    fi
    [ -n "${changed:-}" ] || return 1
    echo "  recomputing ${1##*/} ($changed)"
}

# whether to write average.pt: it is missing or stale, unless the checkpoints of an evaluated run have been deleted
must_average() {
    if [ -n "$dry_run" ]; then
        return
    elif [ -f "$checkpoint" ]; then
        is_stale "$checkpoint"
    else
        [ ! -s "$folder/translations.txt" ] || contains "$folder" "checkpoint*.pt"
    fi
}

if [ -n "$not_evaluated" ]; then
    say "$data: not evaluating $method_name, because $not_evaluated"
    exit
fi
choose_device
if [ -z "$dry_run" ]; then
    [ -s "$folder/translations.txt" ] || contains "$folder" "checkpoint*.pt" ||
        fail "$folder has no checkpoint; train it first with:" \
            "${SYSTEM:+SYSTEM=$SYSTEM }bash scripts/train.sh $data $method_name"
    [ -s "$folder/translations.txt" ] || check_prepared
fi
if [ ${#average[@]} -gt 0 ] && [ "$role" = student ]; then
    checkpoint=$folder/average.pt
    made_of=("checkpoint@$folder/checkpoint_last.pt" -- "${average[@]}")
    if must_average; then
        run nmt-kd average --inputs "$folder" "${average[@]}" --output "$checkpoint"
        [ -n "$dry_run" ] || python "$root/scripts/record.py" write "$(record_of "$checkpoint")" "${made_of[@]}"
    fi
elif [ -z "$dry_run" ] && [ ! -f "$checkpoint" ] && [ ! -s "$folder/translations.txt" ]; then
    fail "$folder has no checkpoint_best.pt, because it was trained without validation; copy the checkpoint to evaluate to that name"
fi

say "$data: translating the test set with ${folder##*/}"
compares= # whether to measure the agreement with the teacher
IFS=: read -ra teachers <<<"$teacher"
if [ -n "$dry_run" ] || [ -f "${teachers[0]}" ]; then
    [ -z "$dry_run" ] && [ ! -f "$checkpoint" ] || compares=yes
elif [ -n "${TEACHER:-}" ] && [[ $TEACHER == *.pt ]]; then
    fail "the teacher's checkpoint $TEACHER is missing; give another one, or leave out TEACHER to evaluate without it"
else
    echo "  not measuring the agreement with a teacher, because there is no checkpoint $teacher"
fi
for number in "${!test_sets[@]}"; do
    subset=test${number#0} name=.${test_sets[number]}
    [ "$number" != 0 ] || name=
    mapfile -t files < <(files_of data "$work/data-bin/$subset".* "$work/data-bin"/dict.*)
    files+=("checkpoint@$checkpoint")
    made_of=("${files[@]}" -- "${remove_subwords[@]}" "${search[@]}")
    into "$folder/translations$name.txt" fairseq-generate "$work/data-bin" --user-dir "$root/nmt_kd" --path "$checkpoint" \
        --gen-subset "$subset" --source-lang "$source_lang" --target-lang "$target_lang" \
        "${remove_subwords[@]}" "${generation[@]}" "${device_flags[@]}"
    made_of=("${files[@]}" "${teachers[@]/#/teacher@}")
    [ -z "$compares" ] || into "$folder/agreement$name.json" \
        nmt-kd agreement "$checkpoint" "$teacher" "$work/data-bin" --gen-subset "$subset" --json
done
if [ -n "${tokenised_bleu:-}" ]; then
    made_of=("translations@$folder/translations.txt")
    into "$folder/hypotheses.tokenised" nmt-kd translations "$folder/translations.txt" --lines H
    into "$folder/references.tokenised" nmt-kd translations "$folder/translations.txt" --lines T
    into "$folder/scores.txt" nmt-kd score --metrics multi-bleu --references "$folder/references.tokenised" \
        --systems "${folder##*/}=$folder/hypotheses.tokenised"
fi
