#!/usr/bin/env bash
# Sequence-level distillation: translate a training set with the teacher and assemble a corpus from the translations.
#
#   bash scripts/distill.sh DATA CORPUS [--restart] [--dry-run] [-- DECODING_FLAG...]
#   bash scripts/distill.sh multi30k kd -- --distill-backend ctranslate2
#   TEACHER=Helsinki-NLP/opus-mt-en-de bash scripts/distill.sh multi30k kd
#   TRANSLATIONS=train.de bash scripts/distill.sh multi30k kd
#
# CORPUS lists parts that nmt-kd assemble can make, joined by +: kd, best-2, inter, mbr, base+kd, base+best-2 ... The script
# writes runs/DATA/decoded, which all corpora share, and runs/DATA/data-bin-CORPUS. Rerun to resume. If the translations or
# the data have changed, the corpus is assembled again. To train on it, run scripts/train.sh DATA METHOD with a method that
# uses this corpus, such as seq_kd (kd) or seq_kd_base (base+kd), or with CORPUS=... and any method. Translations by another
# teacher or with other decoding flags are not mixed: the script stops with an error unless you add --restart, which removes
# the translations and decodes again.
#
#   TEACHER=NAME        a fairseq checkpoint (default: runs/DATA/teacher/checkpoint_best.pt), or another teacher that nmt-kd
#                       decode accepts: a Hugging Face model, a folder written by nmt-kd export, or a CTranslate2 model.
#                       Flags after -- are passed to fairseq-generate for a checkpoint, and to nmt-kd decode for others.
#   TRANSLATIONS=FILE   import these translations instead of decoding: plain text, parallel to runs/DATA/text/train.SOURCE,
#                       or another format of nmt-kd import (.tsv, .jsonl)
#   REVERSE_TEACHER=PATH   the reverse teacher (default: runs/DATA/reverse_teacher/checkpoint_best.pt, see below)
#   WORKERS=N           decode in N processes on this machine (default: one per GPU for a fairseq checkpoint, otherwise 1)
#   SHARD=K/N           decode only shard K of N, counted from 0, and assemble nothing, so that N jobs can share the work;
#                       at the end, run this once without SHARD
#
# A corpus with bt (base+kd+bt) also contains back-translations of the targets, which the reverse teacher decodes into
# runs/DATA/decoded-reverse. Train it with scripts/train.sh DATA reverse_teacher.
#
# On a Slurm cluster, submit scripts/distill.slurm as an array.
. "$(dirname "$0")/common.sh"
. "$root/scripts/decoding.sh"
may_restart=yes takes_flags=yes
read_arguments "$@"
[ ${#names[@]} -eq 2 ] || fail "name a data set ($(config_names data)) and a corpus (kd, base+kd, ...)"
load_data_config "${names[0]}"
corpus=${names[1]}
decoded=$work/decoded
assembled=$work/data-bin-$corpus
record=$assembled/record.json
teacher=${TRANSLATIONS:-${TEACHER:-$work/teacher/checkpoint_best.pt}}
[ "$teacher" = / ] || teacher=${teacher%/}
reverse_teacher=${REVERSE_TEACHER:-$work/reverse_teacher/checkpoint_best.pt}
nbest=4

check_corpus
kind=$(kind_of_teacher)
read_shard
if [ -z "$dry_run" ]; then
    if [ -d "$assembled" ] && [ ! -f "$record" ] && [ -z "$restart" ]; then # written by an earlier version or by nmt-kd assemble
        say "$data: $assembled already exists"
        exit
    fi
    check_prepared
    [ "$teacher" = "$work/teacher/checkpoint_best.pt" ] || check_teacher
fi
check_numbers WORKERS
choose_device
workers=${WORKERS:-1}
[ -n "${WORKERS:-}" ] || [ "$device" = cpu ] || [ "$kind" != checkpoint ] || workers=$(gpus)
[ "$workers" -ge 1 ] || workers=1
pids=()
trap '[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

mapfile -t of_data < <(files_of data "$work/data-bin"/{train,valid,dict}.*)
if [ -n "$restart" ] && [ -z "$dry_run" ]; then
    check_teacher
    lock_translations
    run rm -rf "$decoded" "$decoded".{json,log,cost.json} "$assembled"
    ! has bt || run rm -rf "$decoded-reverse" "$decoded-reverse".{json,log,cost.json}
fi
mapfile -t teachers < <(teacher_parts)
mapfile -t reverse_teachers < <(files_of teacher "$reverse_teacher")
check_decoding "$decoded" "${teachers[@]}"
! has bt || check_decoding "$decoded-reverse" "${reverse_teachers[@]}"
if [ -z "$dry_run" ] && [ -d "$assembled" ]; then
    mapfile -t assembled_of < <(corpus_parts)
    changed=$(differences "$record" "${assembled_of[@]}")
    if [ -z "$changed" ]; then
        say "$data: $assembled already exists"
        exit
    fi
    say "$data: assembling $corpus again ($changed)"
fi

if [ -z "$dry_run" ]; then
    check_teacher
    [ -n "$restart" ] || lock_translations
fi
forward_parts=${corpus//+bt/}
forward_parts=${forward_parts#bt+}
assemble=(nmt-kd assemble "$decoded=$forward_parts")
! has bt || assemble+=("$decoded-reverse=bt")
assemble+=(--data "$work/data-bin" --output "$assembled.partial")
case $kind in
checkpoint) decode "$source_lang" "$target_lang" "$teacher" "$decoded" ;;
translator) decode_text ;;
translations) import_text ;;
esac
if [ "$kind" != checkpoint ]; then
    assemble+=(--subword-model "$work/subwords/subwords.model" --source-lang "$source_lang" --target-lang "$target_lang")
    ! has base && ! has inter || assemble+=(--references "$work/text/train.$target_lang")
fi
! has bt || decode "$target_lang" "$source_lang" "$reverse_teacher" "$decoded-reverse"
if [ -n "${SHARD:-}" ]; then
    say "$data: shard $SHARD is decoded; when all shards are, rerun this command without SHARD to assemble the corpus"
    exit
fi
! has bt || note_decoding "$decoded-reverse" "${reverse_teachers[@]}"
note_decoding "$decoded" "${teachers[@]}"
say "$data: assembling $corpus"
run rm -rf "$assembled.partial"
run "${assemble[@]}" --workers "$(nproc)"
if [ -z "$dry_run" ]; then
    mapfile -t assembled_of < <(corpus_parts)
    python "$root/scripts/record.py" write "$assembled.partial/record.json" "${assembled_of[@]}"
    run rm -rf "$assembled"
fi
run mv "$assembled.partial" "$assembled"
