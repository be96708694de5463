"""A command that is forked behaves as a fresh process."""

import os
import signal
import subprocess
import sys
import time

from conftest import python_variables, run_command

FORKED = "import torch, os, sys; assert 'torch._dynamo' in sys.modules\n"


def test_arguments_input_variables_folder_and_exit_status_reach_the_fork(tmp_path):
    program = FORKED + "print(sys.argv[1:], input(), os.environ['A'], os.getcwd()); sys.exit(7)"
    result = run_command(sys.executable, "-c", program, "x y", input="typed\n", environment={"A": "b"}, cwd=tmp_path)
    assert result.stdout == f"['x y'] typed b {tmp_path}\n", result.stderr
    assert result.returncode == 7


def start(program):
    environment = {**os.environ, **python_variables()}
    command = [sys.executable, "-c", FORKED + program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    forked = int(process.stdout.readline())
    assert forked != process.pid
    return process, forked


def test_a_signal_reaches_the_fork_and_its_end_is_that_of_the_command():
    process, _ = start("import time; print(os.getpid(), flush=True); time.sleep(60)")
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM


def test_the_fork_ends_when_its_command_is_killed():
    process, forked = start("import time; print(os.getpid(), flush=True); time.sleep(60)")
    process.kill()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{forked}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{forked}")
