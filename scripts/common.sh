# Source this first in every script here. It sets $root and $dry_run and defines the functions below.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dry_run= restart=
settings_file= # replaces the data set's file
# an environment that the user has activated takes precedence
[ -n "${VIRTUAL_ENV:-}" ] || [ ! -d "$root/.venv/bin" ] || PATH="$root/.venv/bin:$PATH"
export PATH PYTHONUNBUFFERED=1
# Let waiting threads sleep: on a busy CPU, training takes several times as long if they spin.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

# hide the GPUs from all commands, some of which would use them unasked
[ "${NMT_KD_DEVICE:-}" != cpu ] || export CUDA_VISIBLE_DEVICES=

# print the calling script's first comment
show_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

fail() {
    echo "$(basename "$0"): error: $*" >&2
    exit 1
}

case ${NMT_KD_DEVICE:-} in
"" | cpu | gpu) ;;
*) fail "NMT_KD_DEVICE=$NMT_KD_DEVICE is unknown; choose cpu or gpu" ;;
esac

# read_arguments ARGUMENT...: put names into $names; handle --help, --dry-run and, in scripts that set may_restart,
# --restart; in scripts that set takes_flags, put everything after -- into $extra
read_arguments() {
    names=() extra=()
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help) show_help && exit ;;
        --dry-run) dry_run=yes ;;
        --restart)
            [ -n "${may_restart:-}" ] || fail "unknown option $1; see --help"
            [ -n "${SLURM_RESTART_COUNT:-}" ] || restart=yes # a requeued job resumes
            ;;
        --)
            [ -n "${takes_flags:-}" ] || fail "no flags can follow --; see --help"
            shift
            extra=("$@")
            break
            ;;
        -*) fail "unknown option $1; see --help" ;;
        *) names+=("$1") ;;
        esac
        shift
    done
}

# read_data_and_method ARGUMENT...: read_arguments, then load a data set and a method into $data and $method_name
read_data_and_method() {
    read_arguments "$@"
    [ ${#names[@]} -eq 2 ] || fail "name a data set ($(config_names data)) and a method ($(config_names methods))"
    load_data_config "${names[0]}"
    method_name=${names[1]}
    load_method_config "$method_name"
}

say() { printf '\n== %s\n' "$*"; }

# hold_lock FILE FLOCK_OPTION...: hold a lock, on descriptor $lock, until this script and the commands that it runs end;
# returns 1 if another process holds it
hold_lock() {
    local status=0
    exec {lock}<>"$1" || exit # on NFS, exclusive locks need a file that is open for writing, shared ones for reading
    flock "${@:2}" "$lock" || status=$?
    [ "$status" -le 1 ] || echo "$(basename "$0"): warning: this file system cannot lock $1; start only one process" >&2
    [ "$status" -ne 1 ]
}

# wait_for_lock FILE: hold a lock, and wait while another process holds it
wait_for_lock() { hold_lock "$1"; }

# take_lock FILE USE [FLOCK_OPTION...]: hold a lock, or fail with USE, which says what the process that holds it is doing
take_lock() { hold_lock "$1" --nonblock "${@:3}" || fail "$2; wait for it, or stop it and rerun"; }

# check_numbers NAME...: refuse environment variables that are set to anything but a number of 1 or more
check_numbers() {
    local name
    for name in "$@"; do
        [[ ${!name:-1} =~ ^[1-9][0-9]*$ ]] || fail "$name=${!name} must be a number of 1 or more"
    done
}

# print a command, and run it unless this is a dry run
run() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    [ -n "$dry_run" ] || "$@"
}

# load_data_config NAME: read the settings of a data set into this shell
load_data_config() {
    local file="$root/configs/data/$1.sh" own=${NMT_KD_RUNS:-$root/runs}/$1/settings.sh
    [ -f "$file" ] || [[ $1 == */* ]] || [ ! -f "$own" ] || file=$own # made by prepare.sh --text
    file=${settings_file:-$file}
    [ -f "$file" ] || fail "unknown data set '$1'; choose from: $(config_names data) $(own_data_sets)"
    data=$1
    test_sets=(test)
    decoding=() # flags for decoding the training set with a fairseq checkpoint
    average=()  # evaluate checkpoint_best.pt unless the settings ask for an average of checkpoints
    corpora=() tokenising=() bpe_operations='' vocabulary_size='' subword_algorithm=bpe own_text=() held_out=() clean=''
    # shellcheck source=/dev/null
    . "$file"
    work=${NMT_KD_RUNS:-$root/runs}/$data
    mapfile -t search < <(printf '%s\n' "${generation[@]}" | sed '/^--max-tokens$/,+1d') # without the size of a batch
}

# load_method_config NAME: read the settings of a method into this shell
load_method_config() {
    local file="$root/configs/methods/$1.sh"
    [ -f "$file" ] || fail "unknown method '$1'; choose from: $(config_names methods)"
    # some methods train on a decoded corpus, in the reverse direction, with a criterion that has no teacher, or a model
    # that cannot be evaluated, for the reason in $not_evaluated
    corpus= reversed= without_teacher= not_evaluated=
    # shellcheck source=/dev/null
    . "$file"
}

# whether the method that was read learns from a teacher's predictions, not only from its translations or from no teacher
uses_predictions() { [ -z "$without_teacher" ] && [[ " ${method[*]} " != *" --criterion label_smoothed_cross_entropy "* ]]; }

# the data sets that prepare.sh --text has made
own_data_sets() {
    local file
    for file in "${NMT_KD_RUNS:-$root/runs}"/*/settings.sh; do
        [ ! -f "$file" ] || basename "${file%/settings.sh}"
    done | tr '\n' ' '
}

config_names() { (cd "$root/configs/$1" && echo *.sh | sed 's/\.sh//g'); }

# the number of GPUs that torch sees, which CUDA_VISIBLE_DEVICES can limit
gpus() {
    local count=(python -c 'import torch; print(torch.cuda.device_count())')
    if [ -n "$dry_run" ]; then
        "${count[@]}" 2>/dev/null || echo 0 # torch may not be installed yet
    else
        "${count[@]}" || fail "cannot count the GPUs, because Python cannot import torch (see above); run: bash scripts/setup.sh"
    fi
}

# gpu if there is one, else cpu; NMT_KD_DEVICE overrides this
device() {
    local count
    case ${NMT_KD_DEVICE:-} in
    cpu) echo cpu ;;
    gpu)
        if [ -z "$dry_run" ]; then
            count=$(gpus) || exit
            [ "$count" -gt 0 ] || fail "NMT_KD_DEVICE=gpu, but torch sees no GPU; set it to cpu, or leave it out"
        fi
        echo gpu
        ;;
    "")
        count=$(gpus) || exit
        if [ "$count" -gt 0 ]; then
            echo gpu
        elif [ -z "${CUDA_VISIBLE_DEVICES-all}" ] || ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
            echo cpu
        else
            fail "nvidia-smi lists GPUs, but torch sees none; update the driver, or set NMT_KD_DEVICE=cpu to train on the CPU"
        fi
        ;;
    esac
}

# choose_device: set $device and $device_flags
choose_device() {
    device=$(device)
    device_flags=(--fp16)
    [ "$device" = gpu ] || device_flags=(--cpu)
}

# the setting of the subwords step, as prepare.sh records it; data prepared for a published model keeps its BPE codes
subword_setting() {
    local of_a_model="BPE codes " kept=$work/subwords/settings
    if [ -n "${1:-}" ]; then
        echo "$of_a_model$(sha256sum <"$1/bpecodes" | cut -c1-12)"
    elif [[ "$(cat "$kept" 2>/dev/null)" == "$of_a_model"* ]]; then
        cat "$kept"
    elif [ -n "$bpe_operations" ]; then
        echo "$bpe_operations BPE operations"
    else
        # BPE is the default, which earlier versions did not name
        echo "$vocabulary_size $([ "$subword_algorithm" = bpe ] || echo "$subword_algorithm ")subwords"
    fi
}

# refuse data that is not prepared, or that was prepared with another vocabulary
check_prepared() {
    local kept=$work/subwords/settings
    [ -d "$work/data-bin" ] || fail "$work/data-bin is missing; prepare the data with: bash scripts/prepare.sh $data"
    [ ! -f "$kept" ] || [ "$(cat "$kept")" = "$(subword_setting)" ] ||
        fail "$work/data-bin has $(cat "$kept"), but the settings say $(subword_setting); restore the setting, or prepare" \
            "the data again with: bash scripts/prepare.sh $data --restart"
}

# contains FOLDER PATTERN: whether a folder has a file of such a name
contains() { [ -d "$1" ] && [ -n "$(find "$1" -mindepth 1 -maxdepth 1 -name "$2" -print -quit)" ]; }

# files_of NAME FILE...: the existing files, as parts for scripts/record.py; the first one if none exists
files_of() {
    local file found=()
    for file in "${@:2}"; do
        [ ! -f "$file" ] || found+=("$file")
    done
    [ ${#found[@]} -gt 0 ] || found=("$2")
    printf '%s\n' "${found[@]/#/$1@}"
}

# differences RECORD PART...: print what differs from a record, in one line; nothing if there is no record
differences() {
    [ ! -f "$1" ] || python "$root/scripts/record.py" compare "$@" || [ $? -eq 3 ] ||
        fail "cannot read the record $1 (see above); delete it to skip the comparison"
}
