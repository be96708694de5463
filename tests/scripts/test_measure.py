"""scripts/measure.py runs a command unchanged and records what it costs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

MEASURE = [sys.executable, str(ROOT / "scripts/measure.py")]
BUSY = (
    "import time; data = bytearray(100_000_000); end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
)


def measure(record, *command, **options):
    return subprocess.run([*MEASURE, str(record), *command], capture_output=True, text=True, check=False, **options)


def test_time_adds_up_over_runs_and_memory_is_the_largest(tmp_path):
    record = tmp_path / "records/cost.json"
    assert measure(record, sys.executable, "-c", BUSY).returncode == 0
    first = json.loads(record.read_text())
    assert first["cpu_seconds"] >= 0.3
    assert first["seconds"] >= 0.3
    assert first["peak_mb"] >= 95
    assert measure(record, "true").returncode == 0
    second = json.loads(record.read_text())
    assert first["cpu_seconds"] <= second["cpu_seconds"] < first["cpu_seconds"] + 0.3
    assert second["peak_mb"] == first["peak_mb"]


def test_runs_at_the_same_time_are_all_counted(tmp_path):
    record = tmp_path / "cost.json"
    runs = [subprocess.Popen([*MEASURE, str(record), "sleep", "0.5"]) for _ in range(4)]
    assert [run.wait() for run in runs] == [0] * 4
    assert json.loads(record.read_text())["seconds"] >= 2


def test_output_input_and_status_are_those_of_the_command(tmp_path):
    result = measure(tmp_path / "cost.json", "sh", "-c", "cat; echo wrong >&2; exit 7", input="text")
    assert (result.stdout, result.stderr, result.returncode) == ("text", "wrong\n", 7)


def test_a_signal_ends_the_command_and_is_reported_as_a_shell_does(tmp_path):
    record = tmp_path / "cost.json"
    run = subprocess.Popen([*MEASURE, str(record), "sh", "-c", "echo $$; exec sleep 60"], stdout=subprocess.PIPE)
    child = int(run.stdout.readline())
    time.sleep(0.3)  # until it handles signals
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=10) == 128 + signal.SIGTERM
    assert "seconds" in json.loads(record.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_command_that_does_not_exist_ends_in_one_line(tmp_path):
    result = measure(tmp_path / "cost.json", "no-such-command")
    assert result.returncode == 1
    assert result.stderr == "measure.py: error: cannot run no-such-command: No such file or directory\n"
