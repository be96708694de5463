#!/usr/bin/env bash
# Run an experiment from the papers on a data set: train and evaluate its systems, and write a report.
#
#   bash scripts/experiment.sh DATA EXPERIMENT [--dry-run] [-- FAIRSEQ_TRAIN_FLAG...]
#   bash scripts/experiment.sh wmt14_en_de ablation
#
# EXPERIMENT is a file name in configs/experiments, or the path of a file like those. The report is written to
# runs/DATA/reports/EXPERIMENT. Systems that another experiment has trained are reused. Rerun to resume.
#
#   SEEDS="1 2 3"   train every student once per seed (default: 1); folders of other seeds have names such as tie_kd.seed2
#   TEACHER=PATH    use this teacher instead of training one
#   JOBS=N          train and evaluate N students at the same time, on a CPU with one thread each (default: 1)
. "$(dirname "$0")/common.sh"
takes_flags=yes
read_arguments "$@"
[ ${#names[@]} -eq 2 ] || fail "name a data set ($(config_names data)) and an experiment ($(config_names experiments))"
load_data_config "${names[0]}"
experiment=${names[1]}
file=$root/configs/experiments/$experiment.sh
if [[ $experiment == */* ]] && [ -f "$experiment" ]; then
    file=$experiment experiment=$(basename "$experiment" .sh)
fi
[ -f "$file" ] || fail "unknown experiment '$experiment'; choose from $(config_names experiments)"
flags=()
[ -z "$dry_run" ] || flags=(--dry-run)
folders=()
given_teacher=${TEACHER:-} default_teacher=teacher
declare -A costs_of=() # by store: the files with the costs of making it
declare -A is_teacher=() # by checkpoint: set for teachers, whose training is not part of any price
declare -A name_of=() # by process: the run that it trains and evaluates
jobs=${JOBS:-1} pids=()
check_numbers JOBS
[ "$jobs" = 1 ] || export OMP_NUM_THREADS=1
trap '[ ${#pids[@]} -eq 0 ] || kill -- "${pids[@]/#/-}" 2>/dev/null || true' EXIT # with all that the jobs have started
trap 'exit 130' INT TERM

teacher_checkpoint() { echo "${given_teacher:-$work/$default_teacher/checkpoint_best.pt}"; }

script() { bash "$root/scripts/$1.sh" "${@:2}"; }

# start NAME COMMAND...: run a command at once or, with JOBS, beside others
start() {
    if [ "$jobs" = 1 ] || [ -n "$dry_run" ]; then
        "${@:2}"
        return
    fi
    while [ ${#pids[@]} -ge "$jobs" ]; do wait_for_one; done
    say "$data: training and evaluating $1 (log: $work/logs/$1.log)"
    mkdir -p "$work/logs"
    set -m # gives the job a process group of its own
    "${@:2}" >"$work/logs/$1.log" 2>&1 &
    set +m
    pids+=($!)
    name_of[$!]=$1
}

# wait until one of the commands that were started has ended
wait_for_one() {
    local kept=() pid
    wait -n || true
    for pid in "${pids[@]}"; do
        if kill -0 "$pid" 2>/dev/null; then
            kept+=("$pid")
        else
            wait "$pid" || fail "${name_of[$pid]} failed: $(tail -n 1 "$work/logs/${name_of[$pid]}.log"); rerun to resume"
        fi
    done
    pids=("${kept[@]}")
}

wait_for_all() { while [ ${#pids[@]} -gt 0 ]; do wait_for_one; done; }

train_and_evaluate() {
    local name=$1 method=$2
    shift 2
    export SYSTEM=$name
    script train "$data" "$method" "${flags[@]}" -- "$@" "${extra[@]}"
    [ -n "$not_evaluated" ] || script evaluate "$data" "$method" "${flags[@]}"
}

# one NAME METHOD [FLAG...]: train and evaluate one run, in the folder NAME
one() {
    start "$1" train_and_evaluate "$@"
    [ -n "$not_evaluated" ] || folders+=("$work/$1")
    [ -n "$dry_run" ] || { mkdir -p "$work/$1/records" && printf '%s\n' "${paid[@]}" >"$work/$1/records/paid"; }
}

# system NAME METHOD [FLAG...]: train and evaluate a system of the experiment, with the system $default_teacher as teacher.
# After `CORPUS=best-2`, train it on that corpus instead of the method's; after `STORE=NAME`, from that store.
system() {
    local name=$1 method_name=$2 seed paid=()
    shift 2
    load_method_config "$method_name"
    [ "$role" = student ] || is_teacher[$work/$name/checkpoint_best.pt]=yes
    if [ -n "$given_teacher" ] && [ "$name" = "$default_teacher" ]; then
        say "$data: not training $name, because TEACHER=$given_teacher replaces it"
        return
    fi
    TEACHER=$(teacher_checkpoint)
    export TEACHER
    corpus=${CORPUS:-$corpus}
    if [ -n "$corpus" ]; then
        make_corpus "$corpus"
        paid+=("$work/decoded.cost.json")
        [[ +$corpus+ != *+bt+* ]] || paid+=("$work/decoded-reverse.cost.json")
    fi
    unset TEACHER_CACHE
    if [ -n "${STORE:-}" ]; then
        [ -n "${costs_of[$STORE]:-}" ] || fail "unknown STORE=$STORE of $name; make it before, with: store $STORE ..."
        export TEACHER_CACHE=$work/stores/$STORE
        mapfile -t -O "${#paid[@]}" paid <<<"${costs_of[$STORE]}"
    fi
    if [ "$role" = teacher ]; then
        one "$name" "$method_name" "$@"
        wait_for_all
        return
    fi
    for seed in ${SEEDS:-1}; do
        if [ "$seed" = 1 ]; then
            one "$name" "$method_name" "$@"
        else
            one "$name.seed$seed" "$method_name" "$@" --seed "$seed"
        fi
    done
    [ "$name" != "$default_teacher" ] || wait_for_all # the next systems learn from it
}

# make_corpus CORPUS: let the teacher translate the training set
make_corpus() {
    wait_for_all
    TEACHER=$(teacher_checkpoint) script distill "$data" "$1" "${flags[@]}"
}

# store NAME COMMAND FLAG...: write the folder stores/NAME with nmt-kd COMMAND (cache, datastore or neighbours). After
# `CORPUS=kd`, it is a store for that corpus.
store() {
    local folder=$work/stores/$1 costs=$work/stores/$1.cost.json made_of words word of_data changed
    local teachers=":$(teacher_checkpoint):" # an ensemble has several
    local for_data=$work/data-bin${CORPUS:+-$CORPUS}
    [ -z "${CORPUS:-}" ] || make_corpus "$CORPUS"
    wait_for_all
    costs_of[$1]=$costs
    mapfile -t words < <(printf '%s\n' "${@:3}" | tr : '\n')
    for word in "${words[@]}"; do # other stores, and students of this experiment, are part of the price
        case $word in
        "$work"/stores/*) costs_of[$1]+=$'\n'${costs_of[${word##*/}]:-} ;;
        "$work"/*/checkpoint_best.pt)
            [ -n "${is_teacher[$word]:-}" ] || [[ $teachers == *":$word:"* ]] ||
                costs_of[$1]+=$'\n'${word%/*}/records/cost.json
            ;;
        esac
    done
    local command=(nmt-kd "$2" "$for_data" "$folder" "${@:3}")
    [ -d "$folder" ] || [ -n "$dry_run" ] || rm -f "$costs" # of a store that has been removed
    if [ -n "$dry_run" ]; then
        run "${command[@]}"
        return
    fi
    mapfile -t of_data < <(files_of data "$for_data"/{train,valid,dict}.*)
    made_of=("command=$2" "${of_data[@]}" -- "${@:3}")
    changed=$(differences "$folder/record.json" "${made_of[@]}")
    [ -z "$changed" ] || fail "$folder was made with other settings or data ($changed); remove it, or restore the earlier settings"
    [ ! -f "$folder/record.json" ] || return 0
    say "$data: writing $folder (log: $folder.log)"
    mkdir -p "$work/stores"
    run python "$root/scripts/measure.py" "$costs" "${command[@]}" >>"$folder.log" 2>&1 ||
        fail "nmt-kd $2 failed; see $folder.log, then rerun to resume"
    python "$root/scripts/record.py" write "$folder/record.json" "${made_of[@]}"
}

# other_teacher DATA: train the teacher of another data set
other_teacher() {
    wait_for_all
    (
        unset SYSTEM TEACHER
        script prepare "$1" "${flags[@]}"
        script train "$1" teacher "${flags[@]}" -- "${extra[@]}"
    )
}

NMT_KD_DEVICE=$(device) # once, because importing torch takes seconds
export NMT_KD_DEVICE
script prepare "$data" "${flags[@]}"
# shellcheck source=/dev/null
. "$file"
wait_for_all
say "$data: writing the report on $experiment"
run nmt-kd report "${folders[@]}" --output "$work/reports/$experiment"
