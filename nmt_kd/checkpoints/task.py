"""Set up the task that a checkpoint was trained for, on other data."""

import copy
from pathlib import Path

from fairseq import tasks
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, open_dict

from nmt_kd.errors import UserError


def task_on(checkpoint: str | Path, configuration: DictConfig, data: str) -> FairseqTask:
    """Set up the task of a checkpoint's `configuration` on the binarised `data`, without validation by BLEU.

    Raises UserError if `data` is not a folder written by fairseq-preprocess or is in other languages.
    """
    if not any(Path(data.split(":")[0]).glob("dict.*.txt")):
        raise UserError(f"{data} has no dict.*.txt; give a folder that fairseq-preprocess wrote")
    settings = copy.deepcopy(configuration.task)
    with open_dict(settings):
        settings.data, settings.eval_bleu = data, False
    try:
        return tasks.setup_task(settings, from_checkpoint=True)
    except FileNotFoundError as error:
        raise UserError(
            f"{data} is not in the languages of {checkpoint}: it has no {Path(error.filename).name}; give data in the "
            "same languages"
        ) from None
