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
# Each of the many processes would compile the modules of torch again, which are installed without bytecode.
export PYTHONDONTWRITEBYTECODE='' PYTHONPYCACHEPREFIX=$root/.venv/bytecode
pytest=(python -m pytest --numprocesses "$(nproc)" --dist worksteal --durations 10)

lint() {
    run ruff check .
    run ruff format --check .
    run mypy
}

if [ $# -gt 0 ]; then
    lint
    run "${pytest[@]}" "$@"
    exit
fi
# Run the tests that fork separately: forking a process in which other tests have left library threads can hang. With
# them runs the simulated GPU, whose results come from one process, for which all test processes would wait. They start
# first, to use the cores that the linters leave idle.
unset OMP_WAIT_POLICY
mapfile -t apart < <(grep -rlE "^from (worker|test_training) import" tests --include="test_*.py" | sort)
apart+=(tests/gpu)
if [ -n "$dry_run" ]; then
    run "${pytest[@]}" --numprocesses 1 "${apart[@]}"
else
    of_those=$(mktemp)
    "${pytest[@]}" --numprocesses 1 "${apart[@]}" >"$of_those" 2>&1 &
    trap 'kill $! 2>/dev/null || true; rm -f "$of_those"' EXIT
fi
lint
failed=
run "${pytest[@]}" tests/scripts tests "${apart[@]/#/--ignore=}" || failed=yes # first those that take longest
if [ -z "$dry_run" ]; then
    wait $! || failed=yes
    cat "$of_those"
fi
[ -z "$failed" ]
