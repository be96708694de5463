"""Hands a Python command that takes long to start over to tests/fork_server.py, and stands for it until it ends."""

import os
import signal
import sys

PROGRAMS = ("fairseq-", "nmt-kd", "results.py", "torchrun")


def takes_long_to_start() -> bool:
    """Whether this command will import torch."""
    program, first = [*sys.orig_argv, "", ""][1:3]
    if program == "-c":
        return "import torch" in first or "from fairseq import" in first
    if os.path.basename(program) == "record.py":
        return first == "compare-log"
    return os.path.basename(program).startswith(PROGRAMS) or (program == "-m" and first == "nmt_kd.cli")


def hand_over(server: str) -> int:
    """Have the server run this command; return its exit status, or the negative number of the signal that ended it."""
    import json
    import socket

    files = [number for number in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{number}")]
    umask = os.umask(0)
    os.umask(umask)
    names = ("encoding", "errors", "line_buffering", "write_through")
    request = {
        "arguments": sys.orig_argv[1:],
        "environment": dict(os.environ),
        "files": files,
        "folder": os.getcwd(),
        "path": sys.path,
        "streams": {
            stream: {name: getattr(getattr(sys, stream), name) for name in names}
            for stream in ("stdin", "stdout", "stderr")
        },
        "umask": umask,
    }
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: connection.send(bytes([number])))
    text = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(connection, [text], files)
    connection.sendall(text[sent:])
    return int.from_bytes(connection.recv(2), "big", signed=True)


# OpenMP reads the number of threads only once.
if (address := os.environ.get("FORK_SERVER")) and os.environ.get("OMP_NUM_THREADS") == "1" and takes_long_to_start():
    if (status := hand_over(address)) < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
