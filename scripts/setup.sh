#!/usr/bin/env bash
# Set up a virtual environment in .venv with nmt-kd and its dependencies. Rerun at any time to install what is missing.
#
#   bash scripts/setup.sh [train|dev] [--dry-run]
#
#   train   everything needed to prepare text, train, decode and print results (default; 1 to 2 minutes)
#   dev     also tokenisers and BPE for WMT and IWSLT, COMET, CTranslate2, matplotlib, linters and test tools (1 to 2
#           minutes more)
#
# PYTHON=/path/to/python   for a new .venv: Python 3.11 or 3.12 (default: the first of python3.12, python3 and python3.11 that works)
# TORCH=VERSION            version of torch, 2.6 or newer (default: the one in scripts/constraints.txt)
#
# The times are for a fast network and a CPU build of torch. PyPI's torch for Linux includes CUDA, which takes several
# gigabytes; on a machine without a GPU, set PIP_EXTRA_INDEX_URL to an index with CPU builds.
. "$(dirname "$0")/common.sh"
extra=train
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) dry_run=yes ;;
    train | dev) extra=$1 ;;
    -*) fail "unknown option $1; see --help" ;;
    *) fail "unknown set of packages '$1'; choose train or dev" ;;
    esac
    shift
done

cd "$root"
venv=$root/.venv
log=$root/setup.log
PATH=${PATH//"$venv/bin:"/} # the environment must not be created with its own Python

works() { "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
    local candidate candidates=(python3.12 python3 python3.11)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    # 3.12 first, because fairseq has a wheel for it but must be compiled for 3.11
    for candidate in "${candidates[@]}"; do
        if works "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)' | grep . && return
        fi
    done
    [ -z "${PYTHON:-}" ] || fail "$PYTHON is not Python 3.11 or 3.12 with the venv module; name one with PYTHON=/path/to/python3.11"
    fail "found no Python 3.11 or 3.12 with the venv module; install one, or name one with PYTHON=/path/to/python3.11"
}

constraints() { sed "s/^torch==.*/torch==${TORCH:-$pinned_torch}/" scripts/constraints.txt; }
pinned_torch=$(sed -n 's/^torch==//p' scripts/constraints.txt)

# everything that determines the environment for $1, including the folder, because an environment cannot be moved
recipe() { echo "$1 in $root" && cat pyproject.toml && constraints; }

is_installed() { [ ! -e "$venv/unfinished" ] && [ -f "$venv/installed" ] && [ "$(<"$venv/installed")" = "$(recipe "$1")" ]; }

# step MESSAGE COMMAND...: run a command with its output in the log
step() {
    if [ -n "$dry_run" ]; then
        run "${@:2}"
        return
    fi
    say_time "$1"
    run "${@:2}" >>"$log" 2>&1 || { tail -5 "$log" >&2 && fail "$1 failed; see $log, then rerun"; }
}

say_time() { printf '%5d s  %s\n' "$SECONDS" "$*"; }

# byte-compiling all modules now takes longer than compiling those that are used when they are imported
install() { step "$1" "$venv/bin/python" -m pip install --no-compile "${@:2}"; }

# fairseq looks for --user-dir nmt_kd in the current folder and beside itself, where an editable installation puts nothing
find_by_name() {
    local packages
    for packages in "$venv"/lib/python3.*/site-packages; do
        [ -d "$packages" ] && [ ! -e "$packages/nmt_kd/__init__.py" ] || continue
        mkdir -p "$packages/nmt_kd"
        cat >"$packages/nmt_kd/new" <<'END'
"""Loads nmt-kd from the folder of this environment; scripts/setup.sh wrote this for --user-dir nmt_kd."""

from os.path import abspath
from pathlib import Path

__path__ = [str(Path(abspath(__file__)).parents[5] / "nmt_kd")]
__file__ = str(Path(__path__[0], "__init__.py"))
with open(__file__, encoding="utf-8") as source:
    exec(compile(source.read(), __file__, "exec"))
END
        mv "$packages/nmt_kd/new" "$packages/nmt_kd/__init__.py"
    done
}

is_unusable() {
    local made_for
    made_for=$(head -1 "$venv/installed" 2>/dev/null || true)
    [ -e "$venv/unfinished" ] || # an earlier set-up was interrupted
        ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
        [[ "$made_for" == *" in "* && "$made_for" != *" in $root" ]] # the folder was moved
}

if [ -z "$dry_run" ]; then
    wait_for_lock "$log" # one set-up at a time
    if is_installed "$extra" || is_installed dev; then
        find_by_name
        exit 0
    fi
    # keep the test tools when pyproject.toml changes
    if grep -qs "^dev in " "$venv/installed"; then
        extra=dev
    fi
fi

if [ -n "${PYTHON:-}" ] || [ ! -e "$venv" ] || is_unusable; then
    python=$(find_python) || exit
fi
say "setting up .venv for '$extra', which takes 1 to 3 minutes on a fast network (log: setup.log)"
fairseq=$(grep -o 'fairseq-fixed[^";]*' pyproject.toml)
export PIP_CONSTRAINT=.venv/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 # a relative path, since pip splits at spaces
if [ -z "$dry_run" ]; then
    : >"$log"
    if [ -e "$venv" ] && is_unusable; then
        say_time "removing .venv, which is incomplete, broken or moved"
        rm -rf "$venv"
    fi
    mkdir -p "$venv"
    touch "$venv/unfinished"
    constraints >"$venv/constraints.txt"
fi
[ -x "$venv/bin/python" ] || step "creating .venv with $python" "$python" -m venv "$venv"

built=()
if [ -z "$dry_run" ] && ! "$venv/bin/python" -m pip show --quiet fairseq-fixed 2>/dev/null; then
    install "installing fairseq's build requirements" "setuptools>=77" cython numpy
    # fairseq is built while torch is installed, which the build does not need (see scripts/fairseq_build)
    say_time "building fairseq in the background"
    wheels=$(mktemp -d)
    env PYTHONPATH="$root/scripts/fairseq_build" "$venv/bin/python" -m pip wheel --no-deps --no-build-isolation \
        --wheel-dir "$wheels" "$fairseq" >"$wheels/log" 2>&1 {lock}>&- &
    building=$!
    trap 'kill "$building" 2>/dev/null || true; rm -rf "$wheels"' EXIT
fi
install "installing torch ${TORCH:-$pinned_torch}" torch
if [ -n "${building:-}" ]; then
    wait "$building" || {
        cat "$wheels/log" >>"$log"
        tail -5 "$log" >&2
        fail "building fairseq failed; it needs a C++ compiler and Python's header files; see $log, then rerun"
    }
    built=("$wheels"/*.whl)
fi
package=.
[ "$extra" = train ] || package=".[$extra]"
install "installing nmt-kd and its other dependencies" --no-build-isolation "${built[@]}" --editable "$package"
[ -z "$dry_run" ] || exit 0
find_by_name
recipe "$extra" >"$venv/installed"
rm "$venv/unfinished"
say_time "done"
