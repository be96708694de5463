"""The kinds of teachers whose predictions `nmt-kd cache --source KIND` can write to disk.

Each file in this folder is a kind and needs no registration. Its docstring is the help text. It defines `Options`, a
dataclass of `nmt_kd.options.option` fields, each a flag of `nmt-kd cache`; names start with the kind's, since all kinds
share one command line. And it defines `open_source`, which takes the folder of binarised data, `--teacher-path` and the
options, and returns the task that reads the data and the source of the predictions.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from fairseq.tasks import FairseqTask

from nmt_kd.engine.predictions import PredictionSource


@dataclass(frozen=True)
class SourceKind:
    """A file in this folder."""

    name: str
    help: str
    options: type  # a dataclass
    open_source: Callable[..., tuple[FairseqTask, PredictionSource]]  # (data, teacher_path, options)


def source_kinds() -> dict[str, SourceKind]:
    """Return all kinds of sources by name."""
    kinds = {}
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        name = found.name.replace("_", "-")
        kinds[name] = SourceKind(name, module.__doc__ or "", module.Options, module.open_source)
    return kinds
