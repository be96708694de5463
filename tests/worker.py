"""fairseq's commands in processes of their own, forked, so that none has to import everything again."""

import multiprocessing
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from fairseq.models import distributed_fairseq_model


class Worker:
    """A command that runs beside the test; what it prints goes to `log`."""

    def __init__(self, command: Callable[[], None], arguments: list, log: Path):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.process = multiprocessing.get_context("fork").Process(
            target=_run, args=(command, [str(argument) for argument in arguments], log)
        )
        self.process.start()

    def finish(self) -> None:
        """Wait for its end, which must be a good one."""
        self.process.join(timeout=300)
        assert self.process.exitcode == 0, self.log.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        """End it as a cluster does that is out of patience."""
        self.process.kill()
        self.process.join()
        assert self.process.exitcode in (-signal.SIGKILL, 0)


def _run(command: Callable[[], None], arguments: list[str], log: Path) -> None:
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115  (as long as the process)
    sys.argv = ["fairseq", *arguments]

    class OnTheCPU(distributed_fairseq_model.DistributedDataParallel):
        """torch's own wrapper refuses device numbers on the CPU, and fairseq always passes some."""

        def __init__(self, module, device_ids=None, output_device=None, **kwargs):
            super().__init__(module, **kwargs)

    distributed_fairseq_model.DistributedDataParallel = OnTheCPU
    command()
