#!/usr/bin/env bash
# Measure the speed and memory of training steps of all methods and of textbook implementations, their growth, and decoding.
#
#   bash scripts/benchmark.sh OUTPUT [--dry-run]
#
# Writes tables (*.md, *.json) and plots (*.png) into the folder OUTPUT; existing parts are not measured again. Decoding
# needs a teacher trained on Multi30k (bash scripts/quickstart.sh --data multi30k) and is skipped without one. Takes about
# an hour on two otherwise idle CPU cores.
. "$(dirname "$0")/common.sh"
read_arguments "$@"
[ ${#names[@]} -eq 1 ] || fail "name a folder for the results"
output=${names[0]}
multi30k=${NMT_KD_RUNS:-$root/runs}/multi30k

# part NAME SCRIPT [ARGUMENT...]: write the output of a script to OUTPUT/NAME.md, unless it exists
part() {
    local name=$1 script=$2 file=$output/$1.md
    shift 2
    [ ! -s "$file" ] || [ -n "$dry_run" ] || return 0
    say "$name"
    if [ -n "$dry_run" ]; then
        run python "$root/scripts/$script" "$@"
        return
    fi
    python "$root/scripts/$script" "$@" >"$file.partial" || fail "$script failed; see its message above, then rerun"
    mv "$file.partial" "$file"
    cat "$file"
}

[ -n "$dry_run" ] || mkdir -p "$output"
part steps benchmark.py --json "$output/steps.json"
part steps-37184 benchmark.py --vocabulary 37184 --json "$output/steps-37184.json"
part sweep benchmark_sweep.py --output "$output/sweep"
part growth benchmark_growth.py --output "$output"
if [ -f "$multi30k/teacher/checkpoint_best.pt" ]; then
    part decoding benchmark_decoding.py "$multi30k/data-bin" --path "$multi30k/teacher/checkpoint_best.pt" \
        --gen-subset train --json "$output/decoding.json"
fi
