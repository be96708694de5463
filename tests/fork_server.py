"""Starts Python commands by forking a process that has imported torch and fairseq, which takes seconds.

Tests start hundreds of commands. With tests/stand_ins on PYTHONPATH, Python commands that import fairseq hand
themselves over as soon as they start (see tests/stand_ins/sitecustomize.py): they send their arguments, environment,
folder and open files here, pass signals on, and end with the exit status of the fork. Only libraries are imported
before the fork, so that a command imports this package, sets up logging, parses its arguments and ends as usual.

A process with threads must not fork, since locks that another thread holds would stay locked in the fork. Therefore
OpenMP gets one thread, and the server refuses to start if a library has started one.
"""

import contextlib
import fcntl
import gc
import importlib
import io
import json
import logging
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

LIBRARIES = ["fairseq", "fairseq.trainer", "fairseq.binarizer", "sacrebleu", "sentencepiece", "safetensors.torch"]
LIBRARIES += ["torch._dynamo"]  # the first optimiser imports it
FREE = 512  # the first of the file descriptors that no command uses
TESTS = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)  # the same in all workers of pytest


def variables(stand_ins: Path) -> dict[str, str]:
    """Start a server unless these tests have one; return the environment variables with which commands find it."""
    folder = Path(tempfile.gettempdir(), f"fork-server-{TESTS}")
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            owner = os.getppid() if "PYTEST_XDIST_TESTRUNUID" in os.environ else os.getpid()
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{stand_ins}"}
            command = [sys.executable, __file__, folder, str(owner)]
            with open(folder / "log", "w") as log:
                server = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
                )
            while not (folder / "socket").exists():
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
    return {"FORK_SERVER": str(folder / "socket")}


def serve(folder: Path, owner: int) -> tuple[dict, list[int]]:
    """Fork for each command that connects, and return in the fork what the command is and its files."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "starting"))
    listening.listen(64)
    watched = selectors.DefaultSelector()
    watched.register(listening, selectors.EVENT_READ)
    watched.register(tests := os.pidfd_open(owner), selectors.EVENT_READ)
    connections: dict[socket.socket, int] = {}  # and the process of each
    ends: dict[int, socket.socket] = {}  # by a descriptor that tells the end of a process
    assert len(os.listdir("/proc/self/task")) == 1, "a library has started a thread"
    gc.freeze()
    (folder / "starting").rename(folder / "socket")
    while True:
        for source in [key.fileobj for key, _ in watched.select()]:
            if source is listening:
                client, _ = listening.accept()
                request, files = receive(client)
                process = os.fork() if request else None
                if process == 0:
                    return request, files
                for file in files:
                    os.close(file)
                if process:
                    connections[client] = process
                    ends[end := os.pidfd_open(process)] = client
                    watched.register(client, selectors.EVENT_READ)
                    watched.register(end, selectors.EVENT_READ)
            elif source in connections:
                received = source.recv(1)  # a signal, or nothing if who waits for the process was killed
                os.kill(connections[source], received[0] if received else signal.SIGKILL)
                if not received:
                    watched.unregister(source)
            elif source in ends:
                client = ends.pop(source)
                watched.unregister(source)
                os.close(source)
                _, status = os.waitpid(connections.pop(client), 0)
                if client in watched.get_map():
                    watched.unregister(client)
                    with contextlib.suppress(OSError):
                        client.sendall(os.waitstatus_to_exitcode(status).to_bytes(2, "big", signed=True))
                client.close()
            elif source == tests:
                shutil.rmtree(folder)
                sys.exit()


def receive(client: socket.socket) -> tuple[dict, list[int]]:
    """Return what a command is, and the open files that it sent with it; nothing if it was killed meanwhile."""
    text, files, _, _ = socket.recv_fds(client, 2**20, 250)
    while text and not text.endswith(b"\n") and (more := client.recv(2**20)):
        text += more
    return json.loads(text) if text.endswith(b"\n") else {}, files


def run(request: dict, files: list[int]) -> None:
    """Become the process that sent the request, and run its command."""
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, FREE) for file in files]
    os.closerange(0, FREE)
    for file, number in zip(moved, request["files"], strict=True):
        os.dup2(file, number)
        os.close(file)
    for number, (name, settings) in enumerate(request["streams"].items()):
        buffer = open(number, "wb" if number else "rb", closefd=False)  # noqa: SIM115  (as long as the process)
        setattr(sys, name, io.TextIOWrapper(buffer, **settings))
    if os.path.basename(request["arguments"][0]) == "fairseq-train":  # sets up logging before it imports fairseq
        logging.root.handlers.clear()
        logging.root.setLevel(logging.WARNING)
    for handler in logging.root.handlers:  # of fairseq's import
        handler.setStream(sys.stderr)
    sys.modules["numpy"].random.seed()
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.orig_argv = [sys.executable, *request["arguments"]]
    kind, *rest = request["arguments"]
    sys.path[:] = request["path"]
    if kind == "-c":
        sys.argv = [kind, *rest[1:]]
        sys.path.insert(0, "")
        exec(rest[0], {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = rest
        sys.path.insert(0, os.getcwd())
        runpy._run_module_as_main(rest[0])
    else:
        sys.argv = [kind, *rest]
        sys.path.insert(0, os.path.dirname(os.path.realpath(kind)))
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    for name in LIBRARIES:
        importlib.import_module(name)
    run(*serve(Path(sys.argv[1]), int(sys.argv[2])))
