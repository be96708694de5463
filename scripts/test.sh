#!/usr/bin/env bash
# Set up what the tests need (scripts/setup.sh dev), then run the linters, the type checker and the tests.
#
#   bash scripts/test.sh [--dry-run] [PYTEST_ARGUMENT...]
#   bash scripts/test.sh tests/losses -k projection
. "$(dirname "$0")/common.sh"
case ${1:-} in
-h | --help) show_help && exit ;;
--dry-run) dry_run=yes && shift ;;
esac
bash "$root/scripts/setup.sh" dev ${dry_run:+--dry-run}
PATH="$root/.venv/bin:$PATH"
cd "$root"
run ruff check .
run ruff format --check .
run mypy
pytest=(python -m pytest --numprocesses "$(nproc)" --dist worksteal --durations 10)
if [ $# -gt 0 ]; then
    run "${pytest[@]}" "$@"
    exit
fi
# Tests that fork run in processes of their own: a fork of a process in which a library has left threads can hang.
unset OMP_WAIT_POLICY
mapfile -t forking < <(grep -rlE "^from (worker|test_training) import" tests --include="test_*.py" | sort && echo tests/test_training.py)
mapfile -t forking < <(printf '%s\n' "${forking[@]}" | sort -u)
run "${pytest[@]}" "${forking[@]}"
run "${pytest[@]}" tests "${forking[@]/#/--ignore=}"
