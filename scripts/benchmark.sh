#!/usr/bin/env bash
# Measure everything in one run: training steps of all methods beside textbook forms, how they grow, decoding, memory.
#
#   bash scripts/benchmark.sh OUTPUT [--dry-run]
#
# Writes tables (*.md, *.json) and plots (*.png) into the folder OUTPUT; a part that is there already is not measured again.
# Decoding needs a trained teacher of Multi30k (bash scripts/quickstart.sh --data multi30k) and is left out without one.
# About an hour on two CPU cores, on a machine that does nothing else.
. "$(dirname "$0")/common.sh"
read_arguments "$@"
[ ${#names[@]} -eq 1 ] || fail "name a folder for the results"
output=${names[0]}
multi30k=${NMT_KD_RUNS:-$root/runs}/multi30k

# part NAME SCRIPT [ARGUMENT...]: keep what a script prints in OUTPUT/NAME.md, unless it is there
part() {
    local name=$1 script=$2 file=$output/$1.md
    shift 2
    [ ! -s "$file" ] || [ -n "$dry_run" ] || return 0
    say "$name"
    if [ -n "$dry_run" ]; then
        run python "$root/scripts/$script" "$@"
        return
    fi
    python "$root/scripts/$script" "$@" >"$file.partial" || fail "$script failed"
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
