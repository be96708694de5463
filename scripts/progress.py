"""Read fairseq-train's log from standard input and print one line of progress, along with warnings and errors.

    fairseq-train ... --log-format json 2>&1 | tee train.log | python scripts/progress.py

On a terminal, the line is updated in place; otherwise a new line is printed every ten seconds.
"""

import json
import re
import signal
import sys
import time

SECONDS_BETWEEN_LINES = 10
LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| (\w+) \| ([\w.]+) \| (.*)$")
ERROR_LINE = re.compile(r"^(?:\[rank\d+\]: ?)?(nmt_kd: error: |\w+(\.\w+)*(Error|Exception)\b|fairseq-train: error: )")


def describe(stats: dict, last_update: int | None, seconds: float) -> str:
    """Format fairseq's latest training statistics, `seconds` after the start, in one line."""
    parts = [
        f"  update {stats['num_updates']}" + (f" of {last_update}" if last_update else ""),
        f"loss {stats['loss']}",
    ]
    if "kd_loss" in stats:
        parts.append(f"kd_loss {stats['kd_loss']}")
    parts += [f"{float(stats['wps']):.0f} tokens/s", f"{seconds:.0f} s"]
    return ", ".join(parts)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the training, too, whose last lines follow
    started = time.monotonic()
    last_update = None
    printed_at = 0.0
    open_line = False
    for line in sys.stdin:
        found = LOG_LINE.match(line)
        if ERROR_LINE.match(line) or (found and found[1] in ("WARNING", "ERROR", "CRITICAL")):
            print(line.rstrip(), file=sys.stderr)
        elif found and found[2] == "fairseq_cli.train" and (limit := re.search(r"'max_update': (\d+)", found[3])):
            last_update = int(limit[1])
        elif found and found[2] == "train_inner":
            text = describe(json.loads(found[3]), last_update, time.monotonic() - started)
            if sys.stdout.isatty():
                print(f"\r\033[K{text}", end="", flush=True)
                open_line = True
            elif time.monotonic() - printed_at >= SECONDS_BETWEEN_LINES:
                print(text, flush=True)
                printed_at = time.monotonic()
        elif found and found[2] == "nmt_kd.criterions.base":
            print(f"  {found[3]}", flush=True)
    if open_line:
        print()


if __name__ == "__main__":
    main()
