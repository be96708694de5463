"""Find the dictionaries that a checkpoint was trained with, and compare them with those of a task."""

import logging
from pathlib import Path

from fairseq.tasks import FairseqTask
from omegaconf import DictConfig

from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)

SYMBOLS_SHOWN = 3


def find_dictionary(path: Path, configuration: DictConfig, name: str) -> Path | None:
    """Return the path of the dictionary `name`, next to the checkpoint at `path` or in its training data, or None.

    `name` is a file name such as `dict.en.txt`; `configuration` is that of the checkpoint.
    """
    folders = [path.parent]
    data = getattr(configuration.task, "data", None)
    if data:
        folders.append(Path(str(data).split(":")[0]))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def check_dictionaries(
    path: Path, state: dict, task: FairseqTask, what_to_do: str = "give --data the folder it was trained on"
) -> None:
    """Raise UserError if the checkpoint at `path` was trained with dictionaries that differ from those of the task.

    `state` is the checkpoint's content; `what_to_do` ends the message. If its dictionaries are not found, only the
    sizes are compared, and a warning says so.
    """
    unchecked, without_sizes = [], False
    for side, half in (("source", "encoder"), ("target", "decoder")):
        symbols = getattr(task, f"{side}_dictionary").symbols
        language = getattr(state["cfg"].task, f"{side}_lang", None) or getattr(task.cfg, f"{side}_lang", None)
        here = f"dict.{language}.txt in {task.cfg.data}"
        file = find_dictionary(path, state["cfg"], f"dict.{language}.txt")
        if file is None:
            unchecked.append(side)
        elif (trained_with := type(task).load_dictionary(str(file)).symbols) != symbols:
            raise UserError(
                f"{path} was trained with another {side} dictionary, {file}, of {len(trained_with):,} symbols; {here} "
                f"has {len(symbols):,}; first differences, checkpoint / data: {_differences(trained_with, symbols)}; "
                f"{what_to_do}"
            )
        embeddings = state["model"].get(f"{half}.embed_tokens.weight")
        without_sizes |= embeddings is None
        if embeddings is not None and len(embeddings) != len(symbols):
            raise UserError(
                f"the {side} vocabulary of {path} has {len(embeddings):,} symbols, but {here} has {len(symbols):,}; "
                f"{what_to_do}"
            )
    if unchecked:
        logger.warning(
            f"found no dictionaries beside {path} or in its training folder: the symbols "
            f"{'and sizes ' if without_sizes else ''}of the {' and '.join(unchecked)} are unchecked; put dict.*.txt "
            "beside the checkpoint to have them compared"
        )


def _differences(trained_with: list[str], symbols: list[str]) -> str:
    different = [
        f"line {index}: {theirs!r} / {ours!r}"
        for index, (theirs, ours) in enumerate(zip(trained_with, symbols, strict=False))
        if ours != theirs
    ]
    return "; ".join(different[:SYMBOLS_SHOWN]) or "the shorter dictionary is the beginning of the longer"
