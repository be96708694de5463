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
run python -m pytest --numprocesses "$(nproc)" --dist worksteal --durations 10 "$@"
