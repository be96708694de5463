# What every script here does first; to be sourced. Sets $root and $dry_run, and defines the functions below.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dry_run=
# an environment that was activated on purpose comes first
[ -n "${VIRTUAL_ENV:-}" ] || [ ! -d "$root/.venv/bin" ] || PATH="$root/.venv/bin:$PATH"
export PATH PYTHONUNBUFFERED=1

# print the comment at the top of the calling script as its help
show_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

fail() {
    echo "$(basename "$0"): error: $*" >&2
    exit 1
}

# read_arguments ARGUMENT...: names into $names, what follows -- into $extra; sees to --help and --dry-run
read_arguments() {
    names=() extra=()
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help) show_help && exit ;;
        --dry-run) dry_run=yes ;;
        --) shift && extra=("$@") && break ;;
        -*) fail "unknown option $1; see --help" ;;
        *) names+=("$1") ;;
        esac
        shift
    done
}

# read_data_and_method ARGUMENT...: the same for scripts that want a data set and a method, into $data and $method_name
read_data_and_method() {
    read_arguments "$@"
    [ ${#names[@]} -eq 2 ] || fail "name a data set ($(config_names data)) and a method ($(config_names methods))"
    load_data_config "${names[0]}"
    method_name=${names[1]}
    load_method_config "$method_name"
}

say() { printf '\n== %s\n' "$*"; }

# show a command; run it unless this is a dry run
run() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    [ -n "$dry_run" ] || "$@"
}

# read the settings of a data set into this shell
load_data_config() {
    local file="$root/configs/data/$1.sh"
    [ -f "$file" ] || fail "no data set '$1'; there are: $(config_names data)"
    data=$1
    average=()  # unless the settings say otherwise, the student that is tested is no average
    # shellcheck source=/dev/null
    . "$file"
    work=${NMT_KD_RUNS:-$root/runs}/$data
}

# read the settings of a method into this shell
load_method_config() {
    local file="$root/configs/methods/$1.sh"
    [ -f "$file" ] || fail "no method '$1'; there are: $(config_names methods)"
    corpus= reversed=  # a method may want a decoded corpus, or the other direction
    # shellcheck source=/dev/null
    . "$file"
}

config_names() { (cd "$root/configs/$1" && echo *.sh | sed 's/\.sh//g'); }

# how many GPUs torch sees, of those that CUDA_VISIBLE_DEVICES leaves it
gpus() { python -c 'import torch; print(torch.cuda.device_count())'; }

# gpu where there is one, else cpu; NMT_KD_DEVICE decides it
device() {
    if [ -n "${NMT_KD_DEVICE:-}" ]; then
        echo "$NMT_KD_DEVICE"
    elif [ "$(gpus)" -gt 0 ]; then
        echo gpu
    elif [ -z "${CUDA_VISIBLE_DEVICES-all}" ] || ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
        echo cpu
    else
        fail "nvidia-smi lists GPUs, but torch sees none (a driver too old for this torch?); NMT_KD_DEVICE=cpu does without"
    fi
}

# device_flags FLAG...: the flags for a GPU where there is one, --cpu elsewhere
device_flags() { [ "$(device)" = cpu ] && echo --cpu || echo "$@"; }
