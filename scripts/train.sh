#!/usr/bin/env bash
# Train one system of a data set: its teacher, the plain student, or a student with a method.
#
#   bash scripts/train.sh DATA METHOD [--dry-run] [-- FAIRSEQ_FLAG...]
#   bash scripts/train.sh multi30k word_kd -- --kd-alpha 0.7 --seed 2
#
# DATA is a file name in configs/data, METHOD one in configs/methods. The model goes to runs/DATA/METHOD; a run that
# was stopped goes on from its last checkpoint. What follows -- is handed to fairseq-train after everything else.
# TEACHER names the teacher's checkpoint (default: runs/DATA/teacher/checkpoint_best.pt), SAVE_DIR another folder, CORPUS
# a corpus that scripts/distill.sh has made, to train any method on it.
. "$(dirname "$0")/common.sh"
read_data_and_method "$@"
. "$root/configs/training.sh"

corpus=${CORPUS:-$corpus}
train_data=$work/data-bin${corpus:+-$corpus}
save_dir=${SAVE_DIR:-$work/$method_name}
teacher=${TEACHER:-$work/teacher/checkpoint_best.pt}
model=("${student_model[@]}" "${student_training[@]}")
[ "$role" = student ] || model=("${teacher_model[@]}" "${teacher_training[@]}")
case " ${method[*]} " in
*" --criterion label_smoothed_cross_entropy "*) ;;
*) method+=(--teacher-path "$teacher") ;;
esac
command=(
    # the plugin also where there is no teacher: without it, fairseq on new torch cannot read its own checkpoints
    fairseq-train "$train_data" --user-dir "$root/nmt_kd" --source-lang "$source_lang" --target-lang "$target_lang" --save-dir "$save_dir"
    "${model[@]}" "${training[@]}" "${method[@]}" $(device_flags --fp16) "${extra[@]}"
)

[ ! -f "$save_dir/finished" ] || [ -n "$dry_run" ] || exit 0
[ -z "$corpus" ] || [ -d "$train_data" ] || [ -n "$dry_run" ] ||
    fail "$train_data is missing; make it with: bash scripts/distill.sh $data $corpus"
say "$data: training $method_name (log: $save_dir/train.log)"
run mkdir -p "$save_dir"
if [ -n "$dry_run" ]; then
    run "${command[@]}"
    exit
fi
run "${command[@]}" 2>&1 | tee -a "$save_dir/train.log" | python "$root/scripts/progress.py" ||
    fail "training failed; see $save_dir/train.log"
touch "$save_dir/finished"
