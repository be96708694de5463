#!/usr/bin/env bash
# Set up a virtual environment in .venv with nmt-kd and what it needs. A second run does nothing.
#
#   bash scripts/setup.sh
#
# PYTHON names the interpreter (default: python3, python3.12 or python3.11, the first of a fitting version). The torch
# version is pinned in scripts/constraints.txt; for another one, install nmt-kd into an environment of your own.
. "$(dirname "$0")/common.sh"
case ${1:-} in
"") ;;
-h | --help) show_help && exit ;;
--dry-run) dry_run=yes ;;
*) fail "unknown option $1; see --help" ;;
esac

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
        if fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 or 3.12 is needed and ${PYTHON:-none} is; name one with PYTHON=/path/to/python3.11"
}

cd "$root"
wanted=$(cat pyproject.toml scripts/constraints.txt)
if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
say "setting up .venv (a few minutes; log: setup.log)"
[ -x .venv/bin/python ] || run "$(find_python)" -m venv .venv
# The constraint reaches the build environments too: fairseq's would take the newest torch, gigabytes of it.
export PIP_CONSTRAINT=$root/scripts/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1
if [ -n "$dry_run" ]; then
    run .venv/bin/python -m pip install --upgrade pip
    run .venv/bin/python -m pip install --editable ".[dev]"
    exit
fi
run .venv/bin/python -m pip install --upgrade pip >setup.log 2>&1 || { tail -5 setup.log >&2 && fail "pip failed; see setup.log"; }
run .venv/bin/python -m pip install --editable ".[dev]" >>setup.log 2>&1 ||
    { tail -5 setup.log >&2 && fail "installation failed; see setup.log"; }
echo "$wanted" >.venv/installed
