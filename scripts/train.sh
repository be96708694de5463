#!/usr/bin/env bash
# Train one system on a data set: the teacher, the plain student, or a student with a distillation method.
#
#   bash scripts/train.sh DATA METHOD [--dry-run] [-- FAIRSEQ_FLAG...]
#   SYSTEM=word_kd_0.7 bash scripts/train.sh multi30k word_kd -- --kd-alpha 0.7
#
# DATA is a file name in configs/data, METHOD one in configs/methods, both without .sh. Checkpoints and the log are written
# to runs/DATA/METHOD; rerun to resume from the last checkpoint. Flags after -- are passed to fairseq-train and override all
# others. Once training has started they cannot be changed; use another folder with SYSTEM=NAME.
#
#   SYSTEM=NAME         name of the folder (default: METHOD)
#   TEACHER=PATH        the teacher's checkpoint (default: runs/DATA/teacher/checkpoint_best.pt)
#   TEACHER_CACHE=DIR   use a cache written by nmt-kd cache instead of the teacher
#   CORPUS=NAME         train on a corpus made by scripts/distill.sh, such as kd
#   NPROC=N             number of workers on this machine (default: one per GPU, or one)
#   MAX_TOKENS=N        tokens in one worker's batch; lower it if the data set's default does not fit into memory
#   NNODES=N MASTER=HOST:PORT   number of machines, and address of the first; run this script on each of them
#
# The data set's file sets the number of tokens per update; --update-freq is derived from it and the number of workers.
. "$(dirname "$0")/common.sh"
read_data_and_method "$@"

corpus=${CORPUS:-$corpus}
train_data=$work/data-bin${corpus:+-$corpus}
save_dir=$work/${SYSTEM:-$method_name}
teacher=${TEACHER:-$work/teacher/checkpoint_best.pt}
model=("${student_model[@]}" "${student_training[@]}")
[ "$role" = student ] || model=("${teacher_model[@]}" "${teacher_training[@]}")
case " ${method[*]} " in
*" --criterion label_smoothed_cross_entropy "*) ;;
*) [ -n "${TEACHER_CACHE:-}" ] && method+=(--teacher-cache "$TEACHER_CACHE") || method+=(--teacher-path "$teacher") ;;
esac

languages=(--source-lang "$source_lang" --target-lang "$target_lang")
[ -z "$reversed" ] || languages=(--source-lang "$target_lang" --target-lang "$source_lang")

device=$(device)
nodes=${NNODES:-1}
workers=${NPROC:-1}
[ -n "${NPROC:-}" ] || [ "$device" = cpu ] || workers=$(gpus)
all_workers=$((nodes * workers))
tokens=${MAX_TOKENS:-$max_tokens}
[ $((tokens * all_workers)) -le "$effective_tokens" ] || tokens=$((effective_tokens / all_workers))
[ $((effective_tokens % (tokens * all_workers))) -eq 0 ] ||
    fail "$effective_tokens tokens per update are not divisible by $all_workers workers with $tokens tokens; change NPROC or MAX_TOKENS"

command=(
    # plain training needs the plugin too: without it, fairseq cannot read its checkpoints with torch 2.6 or newer
    fairseq-train "$train_data" --user-dir "$root/nmt_kd" "${languages[@]}"
    --save-dir "$save_dir" "${training[@]}" "${model[@]}" "${method[@]}"
    --max-tokens "$tokens" --update-freq $((effective_tokens / (tokens * all_workers)))
)
[ "$device" = cpu ] && command+=(--cpu) || command+=(--fp16)
if [ "$all_workers" -gt 1 ]; then
    command+=(--distributed-world-size "$all_workers" --distributed-init-method env:// --distributed-no-spawn)
    [ "$device" = gpu ] || command+=(--distributed-backend gloo --ddp-backend legacy_ddp)
    rendezvous=(--standalone)
    [ "$nodes" -eq 1 ] || rendezvous=(--rdzv-backend c10d --rdzv-endpoint "${MASTER:?set it to HOST:PORT of the first machine}")
    command=(
        torchrun "${rendezvous[@]}" --nnodes "$nodes" --nproc-per-node "$workers" --max-restarts 3 --no-python
        bash -c 'exec "$@" --distributed-rank "$RANK" --device-id "$LOCAL_RANK"' worker "${command[@]}"
    )
fi
command+=("${extra[@]}")

flags="$method_name ${extra[*]}"
if [ -z "$dry_run" ] && [ -f "$save_dir/flags" ] && [ "$flags" != "$(cat "$save_dir/flags")" ]; then
    fail "$save_dir was trained with '$(cat "$save_dir/flags")', not '$flags'; choose another folder with SYSTEM=NAME"
fi
if [ -z "$dry_run" ] && [ -f "$save_dir/finished" ]; then
    say "$data: ${save_dir##*/} is already trained"
    exit
fi
[ -z "$corpus" ] || [ -d "$train_data" ] || [ -n "$dry_run" ] ||
    fail "$train_data is missing; make it with: bash scripts/distill.sh $data $corpus"
say "$data: training ${save_dir##*/} on $all_workers $device (log: $save_dir/train.log)"
run mkdir -p "$save_dir"
if [ -n "$dry_run" ]; then
    run "${command[@]}"
    exit
fi
echo "$flags" >"$save_dir/flags"
run "${command[@]}" 2>&1 | tee -a "$save_dir/train.log" | python "$root/scripts/progress.py" ||
    fail "training failed; see $save_dir/train.log"
touch "$save_dir/finished"
