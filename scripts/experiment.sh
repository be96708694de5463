#!/usr/bin/env bash
# Run an experiment from the papers on a data set: train and evaluate its systems, and write a report.
#
#   bash scripts/experiment.sh DATA EXPERIMENT [--dry-run] [-- FAIRSEQ_TRAIN_FLAG...]
#   bash scripts/experiment.sh wmt14_en_de ablation
#
# EXPERIMENT is a file name in configs/experiments. The report is written to runs/DATA/reports/EXPERIMENT. Systems that
# another experiment has trained are reused. Rerun to resume.
#
#   SEEDS="1 2 3"   train every student once per seed (default: 1); folders of other seeds have names such as tie_kd.seed2
#   TEACHER=PATH    use this teacher instead of training one
. "$(dirname "$0")/common.sh"
read_arguments "$@"
[ ${#names[@]} -eq 2 ] || fail "name a data set ($(config_names data)) and an experiment ($(config_names experiments))"
load_data_config "${names[0]}"
experiment=${names[1]}
file=$root/configs/experiments/$experiment.sh
[ -f "$file" ] || fail "unknown experiment '$experiment'; choose from $(config_names experiments)"
flags=()
[ -z "$dry_run" ] || flags=(--dry-run)
folders=()
given_teacher=${TEACHER:-} default_teacher=teacher

script() { bash "$root/scripts/$1.sh" "${@:2}"; }

# one NAME METHOD [FLAG...]: train and evaluate one run, in the folder NAME
one() {
    local name=$1 method=$2
    shift 2
    export SYSTEM=$name
    script train "$data" "$method" "${flags[@]}" -- "$@" "${extra[@]}"
    [ -z "$reversed" ] || return 0
    script evaluate "$data" "$method" "${flags[@]}"
    folders+=("$work/$name")
}

# system NAME METHOD [FLAG...]: train and evaluate a system of the experiment, with the system $default_teacher as teacher.
# After `CORPUS=best-2`, train it on that corpus instead of the method's.
system() {
    local name=$1 method_name=$2 seed
    shift 2
    load_method_config "$method_name"
    if [ -n "$given_teacher" ] && [ "$name" = "$default_teacher" ]; then
        say "$data: not training $name, because TEACHER=$given_teacher replaces it"
        return
    fi
    export TEACHER=${given_teacher:-$work/$default_teacher/checkpoint_best.pt}
    corpus=${CORPUS:-$corpus}
    [ -z "$corpus" ] || script distill "$data" "$corpus" "${flags[@]}"
    if [ "$role" = teacher ]; then
        one "$name" "$method_name" "$@"
        return
    fi
    for seed in ${SEEDS:-1}; do
        if [ "$seed" = 1 ]; then
            one "$name" "$method_name" "$@"
        else
            one "$name.seed$seed" "$method_name" "$@" --seed "$seed"
        fi
    done
}

NMT_KD_DEVICE=$(device) # once, because importing torch takes seconds
export NMT_KD_DEVICE
script prepare "$data" "${flags[@]}"
# shellcheck source=/dev/null
. "$file"
say "$data: writing the report on $experiment"
run nmt-kd report "${folders[@]}" --output "$work/reports/$experiment"
