#!/usr/bin/env bash
# Train one system on a data set: the teacher, the plain student, or a student with a distillation method.
#
#   bash scripts/train.sh DATA METHOD [--restart] [--dry-run] [-- FAIRSEQ_FLAG...]
#   SYSTEM=word_kd_0.7 bash scripts/train.sh multi30k word_kd -- --kd-alpha 0.7
#
# DATA is a file name in configs/data, METHOD one in configs/methods, both without .sh. Checkpoints and the log are written
# to runs/DATA/METHOD; rerun to resume from the last checkpoint. Flags after -- are passed to fairseq-train and override all
# others. Once there is a checkpoint, a rerun with other flags, settings, data, corpus or teacher is an error: choose another
# folder with SYSTEM=NAME, or add --restart, which removes the run and trains again. The device, the number of workers and
# MAX_TOKENS may change.
#
#   SYSTEM=NAME         name of the folder (default: METHOD)
#   STUDENT=NAME        train a student of this size, a file name in configs/students, instead of the data set's
#   TEACHER=PATH        the teacher's checkpoint (default: runs/DATA/teacher/checkpoint_best.pt)
#   TEACHER_CACHE=DIR   use a cache written by nmt-kd cache instead of the teacher
#   CORPUS=NAME         train on runs/DATA/data-bin-NAME, made by scripts/distill.sh (such as kd) or nmt-kd assemble
#   NPROC=N             number of workers on this machine (default: as many GPUs as can share an update evenly with 1,000 or
#                       more tokens each; 1 on a CPU)
#   MAX_TOKENS=N        tokens in one worker's batch; lower it if the data set's default does not fit into memory
#   NNODES=N MASTER=HOST:PORT   number of machines, and address of the first; run this script on each of them
#
# The data set's file sets the number of tokens per update; --update-freq is derived from it and the number of workers.
. "$(dirname "$0")/common.sh"
may_restart=yes takes_flags=yes
read_data_and_method "$@"

corpus=${CORPUS:-$corpus}
train_data=$work/data-bin${corpus:+-$corpus}
save_dir=$work/${SYSTEM:-$method_name}
record=$save_dir/records/training.json
teacher=${TEACHER:-$work/teacher/checkpoint_best.pt}
needs_teacher=
if [ -n "${STUDENT:-}" ]; then
    [ -f "$root/configs/students/$STUDENT.sh" ] || fail "unknown STUDENT=$STUDENT; choose from: $(config_names students)"
    # shellcheck source=/dev/null
    . "$root/configs/students/$STUDENT.sh"
fi
model=("${student_model[@]}" "${student_training[@]}")
[ "$role" = student ] || model=("${teacher_model[@]}" "${teacher_training[@]}")
if uses_predictions && [[ " ${extra[*]} " != *" --teacher-"* ]]; then # unless the flags after -- name the teacher
    needs_teacher=yes
    [ -n "${TEACHER_CACHE:-}" ] && method+=(--teacher-cache "$TEACHER_CACHE") || method+=(--teacher-path "$teacher")
fi

languages=(--source-lang "$source_lang" --target-lang "$target_lang")
[ -z "$reversed" ] || languages=(--source-lang "$target_lang" --target-lang "$source_lang")

check_numbers NNODES NPROC MAX_TOKENS
choose_device
nodes=${NNODES:-1}

# divide WORKERS: set $all_workers, and $tokens in each one's batch; returns 1 if an update cannot be divided evenly
divide() {
    all_workers=$((nodes * $1))
    tokens=${MAX_TOKENS:-$max_tokens}
    [ $((tokens * all_workers)) -le "$effective_tokens" ] || tokens=$((effective_tokens / all_workers))
    [ $((effective_tokens % (tokens * all_workers))) -eq 0 ]
}

if [ -n "${NPROC:-}" ] || [ "$device" = cpu ]; then
    workers=${NPROC:-1}
else
    available=$(gpus)
    for ((workers = available; workers > 1; workers--)); do
        ! divide "$workers" || [ $((effective_tokens / all_workers)) -lt 1000 ] || break
    done
    [ "$workers" -ge 1 ] || workers=1 # a dry run for a GPU on a machine without one
    [ "$workers" -ge "$available" ] || say "using $workers of $available GPUs, the most that can share an update of $effective_tokens tokens evenly, with 1,000 or more each"
fi
divide "$workers" ||
    fail "$effective_tokens tokens per update are not divisible by $all_workers workers with $tokens tokens each; change NPROC or MAX_TOKENS"

command=(
    # plain training needs the plugin too: without it, fairseq cannot read its checkpoints with torch 2.6 or newer
    fairseq-train "$train_data" --user-dir "$root/nmt_kd" "${languages[@]}"
    --save-dir "$save_dir" "${training[@]}" "${model[@]}" "${method[@]}"
    --max-tokens "$tokens" --update-freq $((effective_tokens / (tokens * all_workers)))
    --max-tokens-valid "$max_tokens"              # a sentence that is longer than a worker's batch would end the training
    --distributed-world-size "$all_workers"       # or fairseq would use all GPUs
)
command+=("${device_flags[@]}")
if [ "$all_workers" -gt 1 ]; then
    command+=(--distributed-init-method env:// --distributed-no-spawn)
    [ "$device" = gpu ] || command+=(--distributed-backend gloo --ddp-backend legacy_ddp)
    rendezvous=(--standalone)
    [ "$nodes" -eq 1 ] || rendezvous=(--rdzv-backend c10d --rdzv-endpoint "${MASTER:?set it to HOST:PORT of the first machine}")
    command=(
        torchrun "${rendezvous[@]}" --nnodes "$nodes" --nproc-per-node "$workers" --max-restarts 3 --no-python
        bash -c 'exec "$@" --distributed-rank "$RANK" --device-id "$LOCAL_RANK"' worker "${command[@]}"
    )
fi
command+=("${extra[@]}")

if [ -n "$dry_run" ]; then
    say "$data: training ${save_dir##*/} on $all_workers $device (log: $save_dir/train.log)"
    run mkdir -p "$save_dir"
    run "${command[@]}"
    exit
fi

has_checkpoint() { contains "$save_dir" "checkpoint*.pt"; }

# print the differences between this run and the one in $save_dir
differences_from_run() {
    if [ -f "$record" ]; then
        differences "$record" "${made_of[@]}"
    elif [ -f "$save_dir/flags" ]; then # made by an earlier version
        local earlier flags="$method_name ${extra[*]}" trained_on
        earlier=$(cat "$save_dir/flags")
        trained_on=$(grep -o "'data': '[^']*'" "$save_dir/train.log" 2>/dev/null | tail -1 | sed "s|.*/||; s/'$//" || true)
        if [ "$earlier" != "$flags" ]; then
            echo "method and flags: $earlier -> $flags"
        elif [ -n "$trained_on" ] && [ "$trained_on" != "${train_data##*/}" ]; then
            echo "data: $trained_on -> ${train_data##*/}"
        elif [ -f "$save_dir/train.log" ]; then
            python "$root/scripts/record.py" compare-log "$save_dir" "${made_of[@]}" || true
        fi
    fi
}

# refuse a corpus or a teacher that does not exist; for a finished run, only those that the user has named must exist
check_ingredients() {
    local named_corpus=${CORPUS:-} named_teacher=${TEACHER_CACHE:-${TEACHER:-}}
    [ "$named_teacher" != "$work/teacher/checkpoint_best.pt" ] || named_teacher=
    if [ ! -f "$save_dir/finished" ] || [ -n "$restart" ]; then
        check_prepared
        named_corpus=$corpus named_teacher=${TEACHER_CACHE:-$teacher}
    elif [ -d "$work/data-bin" ]; then
        check_prepared
    fi
    [ -z "$named_corpus" ] || [ -d "$train_data" ] || fail "$train_data is missing; make it with: bash scripts/distill.sh" \
        "$data $corpus, or with nmt-kd assemble ... --output $train_data"
    [ -n "$needs_teacher" ] && [ -n "$named_teacher" ] || return 0
    local file files
    if [ -n "${TEACHER_CACHE:-}" ]; then
        [ -f "$TEACHER_CACHE/manifest.json" ] ||
            fail "TEACHER_CACHE=$TEACHER_CACHE has no manifest.json; give a folder written by nmt-kd cache"
        return 0
    fi
    IFS=: read -ra files <<<"$named_teacher"
    for file in "${files[@]}"; do
        [ ! -d "$file" ] || fail "$method_name needs a fairseq checkpoint as the teacher, but $file is a folder; choose a" \
            "method that trains on the teacher's translations, such as seq_kd"
        [ -f "$file" ] || fail "the teacher's checkpoint $file is missing; train it with: bash scripts/train.sh $data teacher," \
            "or give another with TEACHER=PATH"
    done
}

# refuse to train, or to remove, a run that another process trains on this machine
lock_run() {
    mkdir -p "$save_dir"
    [ "$nodes" -eq 1 ] || return 0
    take_lock "$save_dir/.lock" "$save_dir is being trained by another process"
}

check_ingredients
if [ -n "$restart" ] && [ -d "$save_dir" ]; then
    [ "$nodes" -eq 1 ] || fail "--restart is for one machine; remove $save_dir yourself, then start all machines without it"
    [ -f "$save_dir/train.log" ] || has_checkpoint || fail "$save_dir is not a training run; remove it yourself"
    lock_run
    run find "$save_dir" -mindepth 1 ! -name .lock -delete
elif [ ! -f "$save_dir/finished" ]; then
    lock_run
fi
mapfile -t data_files < <(files_of data "$train_data"/{train,valid,dict}.*)
made_of=(
    "method=$method_name" "corpus=$corpus" "languages=${languages[1]}-${languages[3]}" "tokens per update=$effective_tokens"
    "${data_files[@]}" -- "${training[@]}" "${model[@]}" "${method[@]}" "${extra[@]}"
)
changed=$(differences_from_run)
if [ -n "$changed" ]; then
    if has_checkpoint || [ -f "$save_dir/finished" ]; then
        fail "this run differs from the one in $save_dir ($changed); choose another folder with SYSTEM=NAME, or add" \
            "--restart to remove it and train again"
    fi
    rm -f "$save_dir/train.log" "$save_dir/records/cost.json" # of a run that failed before its first checkpoint
fi
if [ -f "$save_dir/finished" ]; then
    say "$data: ${save_dir##*/} is already trained"
    exit
fi
say "$data: training ${save_dir##*/} on $all_workers $device (log: $save_dir/train.log)"
python "$root/scripts/record.py" write "$record" "${made_of[@]}"
run python "$root/scripts/measure.py" "$save_dir/records/cost.json" "${command[@]}" 2>&1 | tee -ai "$save_dir/train.log" | python "$root/scripts/progress.py" ||
    fail "training failed; see $save_dir/train.log"
touch "$save_dir/finished"
