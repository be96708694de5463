"""Run a command, and add what it costs to a record.

    python scripts/measure.py RECORD COMMAND...

RECORD is a JSON file with `seconds` and `cpu_seconds`, summed over all runs that were recorded there, and `peak_mb`,
the largest memory of a single process. Several runs may be recorded in the same file at the same time. A run that is
killed together with this program is not recorded. The exit status is that of the command.
"""

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path


def run(command: list[str]) -> tuple[int, dict[str, float]]:
    """Run the command and return its exit status, as a shell reports it, and its costs."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the command as well
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: process.send_signal(number))
    status = process.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    costs = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }
    return status if status >= 0 else 128 - status, costs


def add(record: Path, costs: dict[str, float]) -> None:
    """Add the costs of a run to the record, which need not exist."""
    record.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(record, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        earlier = json.loads(file.read() or "{}")
        total = {name: earlier.get(name, 0) + value for name, value in costs.items()}
        total["peak_mb"] = max(earlier.get("peak_mb", 0), costs["peak_mb"])
        file.seek(0)
        file.truncate()
        file.write(json.dumps({name: round(value, 1) for name, value in total.items()}) + "\n")


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        raise SystemExit("usage: python scripts/measure.py RECORD COMMAND...")
    try:
        status, costs = run(arguments[1:])
    except OSError as error:
        raise SystemExit(f"measure.py: error: cannot run {arguments[1]}: {error.strerror}") from None
    add(Path(arguments[0]), costs)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
