"""Translate as on a CPU without VNNI, which computes int8 products differently."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from nmt_kd.errors import UserError
from nmt_kd.exporting.runnable import PROGRAM

logger = logging.getLogger(__name__)

CPU_INFO = Path("/proc/cpuinfo")
WITHOUT_VNNI = {  # read when the libraries are loaded, so a separate process is needed
    "CT2_FORCE_CPU_ISA": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def cpu_flags() -> set[str]:
    """Return the features of this CPU under Linux's names; none where they are unknown."""
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.is_file() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def has_vnni() -> bool:
    """Tell whether this CPU is known to have VNNI."""
    return any(flag.endswith("_vnni") for flag in cpu_flags())


def translate_without_vnni(folder: Path, model: str, shortlist: bool, sources: list[str]) -> list[str] | None:
    """Translate `sources` with the program in `folder` and the model of this name, in a process limited to AVX2.

    Sources and translations are in subwords. Returns None on a CPU without AVX2. Raises UserError if the program fails.
    """
    if "avx2" not in cpu_flags():
        return None
    logger.info(f"translating {len(sources):,} sentences without VNNI: {model}")
    flags = ["--subwords", "--model", model, "--shortlist" if shortlist else "--no-shortlist"]
    done = subprocess.run(
        [sys.executable, str(folder / PROGRAM), *flags],
        input="".join(f"{source}\n" for source in sources),
        env={**os.environ, **WITHOUT_VNNI},
        capture_output=True,
        encoding="utf-8",
    )
    translations = done.stdout.split("\n")[:-1]  # only a line feed ends a line
    if done.returncode or len(translations) != len(sources):
        reason = (done.stderr.strip().splitlines() or [f"{len(translations)} of {len(sources)} lines translated"])[-1]
        raise UserError(f"the exported {PROGRAM} fails with the {model} model: {reason}")
    return translations
