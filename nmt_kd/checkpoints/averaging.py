"""Average the parameters of checkpoints (Vaswani et al., 2017: the last five)."""

import collections
import re
from pathlib import Path

import torch

from nmt_kd.checkpoints.reading import read_checkpoint_file
from nmt_kd.errors import UserError
from nmt_kd.storage.atomic import atomic_file

BY_EPOCH = re.compile(r"checkpoint(\d+)\.pt")
BY_UPDATE = re.compile(r"checkpoint_\d+_(\d+)\.pt")


def last_checkpoints(folder: str | Path, count: int, pattern: re.Pattern) -> list[Path]:
    """Return the last `count` checkpoints of a folder by epoch (`BY_EPOCH`) or by update (`BY_UPDATE`), newest first.

    Raises UserError if the folder has fewer.
    """
    numbered = [(int(found[1]), path) for path in Path(folder).glob("*.pt") if (found := pattern.fullmatch(path.name))]
    if len(numbered) < count:
        kind = "epoch" if pattern is BY_EPOCH else "update"
        raise UserError(
            f"{folder} has {len(numbered)} checkpoints by {kind}, but {count} are to be averaged; average fewer, or "
            f"train with --keep-last-epochs {count} or --keep-interval-updates {count}"
        )
    return [path for _, path in sorted(numbered, reverse=True)[:count]]


def average_checkpoints(paths: list[Path]) -> dict:
    """Return the checkpoint `paths[0]` with its parameters replaced by the means over all `paths`.

    Sums are computed in float64, with the parameters of two checkpoints in memory at a time; each parameter keeps its
    precision. Raises UserError if the checkpoints have different parameters.
    """
    first = read_checkpoint_file(paths[0], mapped=True)
    sums = {name: value.double() for name, value in first["model"].items()}
    for path in paths[1:]:
        parameters = read_checkpoint_file(path, mapped=True)["model"]
        if shapes(parameters) != shapes(first["model"]):
            raise UserError(f"{path} and {paths[0]} have different parameters; average checkpoints of one model")
        for name, value in parameters.items():
            sums[name] += value.double()
    first["model"] = collections.OrderedDict(
        (name, _like(value, sums[name] / len(paths))) for name, value in first["model"].items()
    )
    return first


def shapes(parameters: dict) -> dict[str, torch.Size]:
    """Return the shape of each parameter."""
    return {name: value.shape for name, value in parameters.items()}


def _like(value: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    return (mean if value.is_floating_point() else mean.floor()).to(value.dtype)


def write_average(paths: list[Path], output: Path) -> None:
    """Write the average of the checkpoints `paths` to `output`, whole or not at all."""
    average = average_checkpoints(paths)
    with atomic_file(output) as file:
        torch.save(average, file)
