#!/usr/bin/env bash
# Sequence-level distillation: decode a training set with the teacher and assemble a corpus from the translations.
#
#   bash scripts/distill.sh DATA CORPUS [--dry-run] [-- FAIRSEQ_GENERATE_FLAG...]
#   bash scripts/distill.sh multi30k kd -- --distill-backend ctranslate2
#
# CORPUS is one that nmt-kd assemble can make: kd, best-2, inter, base+kd, base+best-2 ... Writes runs/DATA/decoded, which
# all corpora share, and runs/DATA/data-bin-CORPUS. Rerun to resume. To train on the corpus, run scripts/train.sh DATA
# METHOD with a method that uses it, such as seq_kd (kd) or seq_kd_base (base+kd), or with CORPUS=... and any method.
#
# A corpus with bt (base+kd+bt) also contains back-translations of the targets, which the reverse teacher decodes into
# runs/DATA/decoded-reverse. Train it with scripts/train.sh DATA reverse_teacher, or give one with REVERSE_TEACHER=PATH.
#
# WORKERS=N decodes with N processes on this machine (default: one per GPU, or one). On a cluster, run the printed
# fairseq-generate command under torchrun, or as a Slurm array with scripts/distill.slurm.
. "$(dirname "$0")/common.sh"
read_arguments "$@"
[ ${#names[@]} -eq 2 ] || fail "name a data set ($(config_names data)) and a corpus (kd, base+kd, ...)"
load_data_config "${names[0]}"
corpus=${names[1]}
decoded=$work/decoded
assembled=$work/data-bin-$corpus
if [ -d "$assembled" ] && [ -z "$dry_run" ]; then
    say "$data: $assembled already exists"
    exit
fi
workers=${WORKERS:-$(gpus)}
[ "$workers" -ge 1 ] || workers=1
pids=()
trap '[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

# decode SOURCE_LANGUAGE TARGET_LANGUAGE TEACHER FOLDER: translate the source side of the training set into FOLDER
decode() {
    local worker pid folder=$4
    local command=(
        fairseq-generate "$work/data-bin" --user-dir "$root/nmt_kd" --task seq_kd --source-lang "$1" --target-lang "$2"
        --gen-subset train --path "$3" --distill-dir "$folder" --nbest 4
        "${generation[@]}" $(device_flags --fp16) "${extra[@]}"
    )
    say "$data: decoding the training set into $folder (log: $folder.log)"
    if [ -n "$dry_run" ]; then
        run "${command[@]}"
        return
    fi
    for ((worker = 0; worker < workers; worker++)); do
        LOCAL_RANK=$worker "${command[@]}" --num-shards "$workers" --shard-id "$worker" --no-progress-bar \
            > >(tee -a "$folder.log" | grep --line-buffered -E "sentences/s|[Ee]rror: ") 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || fail "decoding failed; see $folder.log, then rerun to resume"
    done
    pids=()
}

assemble=(nmt-kd assemble "$decoded" --data "$work/data-bin" --corpus "$corpus" --output "$assembled.partial")
decode "$source_lang" "$target_lang" "${TEACHER:-$work/teacher/checkpoint_best.pt}" "$decoded"
if [[ +$corpus+ == *+bt+* ]]; then
    decode "$target_lang" "$source_lang" "${REVERSE_TEACHER:-$work/reverse_teacher/checkpoint_best.pt}" "$decoded-reverse"
    assemble+=(--reverse "$decoded-reverse")
fi
say "$data: assembling $corpus"
run rm -rf "$assembled.partial"
run "${assemble[@]}" --workers "$(nproc)"
run mv "$assembled.partial" "$assembled"
