"""Check the user's input: the checkpoint, its data and the output folder."""

import json
from pathlib import Path

from fairseq import tasks
from fairseq.tasks.translation import TranslationTask
from omegaconf import DictConfig

from nmt_kd.checkpoints.dictionaries import find_dictionary
from nmt_kd.checkpoints.task import task_on
from nmt_kd.errors import UserError
from nmt_kd.exporting.summary import MARK, SUMMARY


def translation_task_on(checkpoint: Path, configuration: DictConfig, data: str) -> TranslationTask:
    """Return the translation task of a checkpoint on `data`; UserError if it was trained for another task."""
    name = getattr(configuration.task, "_name", None)
    kind = tasks.TASK_REGISTRY.get(name)
    if kind is None or not issubclass(kind, TranslationTask):
        raise UserError(
            f"{checkpoint} was trained for fairseq's task {name}; give a checkpoint of the task translation"
        )
    task = task_on(checkpoint, configuration, data)
    assert isinstance(task, TranslationTask)
    return task


def check_dictionaries(checkpoint: Path, state: dict, task: TranslationTask) -> None:
    """Raise UserError if the checkpoint was trained with other dictionaries than those of the task's data."""
    for side, half, language in (
        ("source", "encoder", task.cfg.source_lang),
        ("target", "decoder", task.cfg.target_lang),
    ):
        symbols = (task.source_dictionary if side == "source" else task.target_dictionary).symbols
        here, what_to_do = f"dict.{language}.txt in {task.cfg.data}", "give --data the folder it was trained on"
        embeddings = state["model"].get(f"{half}.embed_tokens.weight")
        if embeddings is not None and len(embeddings) != len(symbols):
            raise UserError(
                f"the {side} vocabulary of {checkpoint} has {len(embeddings):,} symbols, but {here} has "
                f"{len(symbols):,}; {what_to_do}"
            )
        file = find_dictionary(checkpoint, state["cfg"], f"dict.{language}.txt")
        if file is not None and type(task).load_dictionary(str(file)).symbols != symbols:
            raise UserError(
                f"{checkpoint} was trained with the {side} dictionary {file}, which differs from {here}; {what_to_do}"
            )


def check_output(output: Path, fingerprint: str) -> None:
    """Raise UserError if `output` exists, unless it is empty or an export of the checkpoint with this hash."""
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file; --output must be a folder")
    if not any(output.iterdir()):
        return
    elsewhere = "give another --output"
    try:
        summary = json.loads((output / SUMMARY).read_text(encoding="utf-8"))
        earlier, own, _ = summary["checkpoint_sha256"], summary["files"], summary[MARK]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{output} exists and was not written by nmt-kd export; {elsewhere}") from None
    if earlier != fingerprint:
        raise UserError(f"{output} is the export of another checkpoint, {summary['checkpoint']}; {elsewhere}")
    foreign = sorted(set(files_in(output)) - set(own))
    if foreign:
        raise UserError(f"{output} contains {foreign[0]}, which nmt-kd export did not write; move it, or {elsewhere}")


def files_in(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, relative to it and sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
