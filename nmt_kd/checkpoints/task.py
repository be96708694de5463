"""Set up fairseq's task for binarised data: the one that a checkpoint was trained for, or plain translation."""

import copy
from pathlib import Path

from fairseq import tasks
from fairseq.tasks import FairseqTask
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import DictConfig, OmegaConf, open_dict

from nmt_kd.data import opening_data
from nmt_kd.errors import UserError


def task_on(checkpoint: str | Path, configuration: DictConfig, data: str) -> FairseqTask:
    """Set up the task of a checkpoint's `configuration` on the binarised `data`, without validation by BLEU.

    Raises UserError if `data` is not a folder written by fairseq-preprocess or is in other languages.
    """
    settings = copy.deepcopy(configuration.task)
    with open_dict(settings):
        settings.data, settings.eval_bleu = data, False
    folder = Path(data.split(":")[0])
    languages = getattr(settings, "source_lang", None), getattr(settings, "target_lang", None)
    names = [f"dict.{language}.txt" for language in languages if language]
    missing = [name for name in names if not (folder / name).exists()]
    if missing and any(folder.glob("dict.*.txt")):
        raise UserError(
            f"{data} is not in the languages of {checkpoint}: it has no {missing[0]}; give data in the same languages"
        )
    with opening_data(data, *languages):
        return tasks.setup_task(settings, from_checkpoint=True)


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


def task_of_data(
    data: str, source_lang: str | None = None, target_lang: str | None = None, train_subset: str = "train"
) -> TranslationTask:
    """Set up the translation task on a folder of binarised `data` with fairseq's defaults; None finds the languages.

    Raises UserError if `data` is not a folder written by fairseq-preprocess or is in other languages.
    """
    settings = {
        "_name": "translation",
        "data": data,
        "source_lang": source_lang,
        "target_lang": target_lang,
        "train_subset": train_subset,
        "dataset_impl": None,
        "required_seq_len_multiple": 1,
        "upsample_primary": 1,  # fairseq's default fails for several training sets, train, train1, ...
    }
    defaults = OmegaConf.create(OmegaConf.to_container(OmegaConf.structured(TranslationConfig), resolve=False))
    with opening_data(data, source_lang, target_lang):
        return tasks.setup_task(OmegaConf.merge(defaults, settings))
