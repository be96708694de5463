"""Load a teacher's models from fairseq checkpoints, and check that they fit the student's data."""

import logging
from pathlib import Path

from fairseq import models as fairseq_models
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY, BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, open_dict
from torch import Tensor

from nmt_kd.checkpoints.dictionaries import find_dictionary
from nmt_kd.checkpoints.reading import read_checkpoint
from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)

SYMBOLS_SHOWN = 3


def load_model(path: Path, task: FairseqTask) -> BaseFairseqModel:
    """Return a checkpoint's model, built from its own configuration with the dictionaries of `task`.

    Raises UserError if the file is unusable, or the model has another language pair or other dictionaries or is not an
    encoder-decoder.
    """
    state = read_checkpoint(path)
    configuration = state["cfg"]
    _check_is_encoder_decoder(path, configuration)
    _check_language_pair(path, configuration, task)
    _check_dictionaries(path, configuration, state["model"], task)
    with open_dict(configuration):
        for name in ("encoder_embed_path", "decoder_embed_path"):  # the checkpoint contains the embeddings
            if getattr(configuration.model, name, None):
                setattr(configuration.model, name, None)
    # Not task.build_model: with --eval-bleu that would make the teacher the model whose BLEU is reported.
    model = fairseq_models.build_model(configuration.model, task, from_checkpoint=True)
    try:
        model.load_state_dict(state["model"], strict=True, model_cfg=configuration.model)
    except (RuntimeError, KeyError) as error:
        detail = " ".join(str(error).split())[:300]
        raise UserError(
            f"teacher {path} does not fit the model that its own configuration describes: {detail}"
        ) from None
    return model


def _model_name(configuration: DictConfig) -> str | None:
    return getattr(configuration.model, "_name", None) or getattr(configuration.model, "arch", None)


def _check_is_encoder_decoder(path: Path, configuration: DictConfig) -> None:
    name = _model_name(configuration)
    kind = ARCH_MODEL_REGISTRY.get(name) or MODEL_REGISTRY.get(name)
    if kind is None:
        raise UserError(f"teacher {path} has the unknown architecture {name}; add the --user-dir that registers it")
    if not issubclass(kind, FairseqEncoderDecoderModel):
        raise UserError(f"teacher {path} is not an encoder-decoder model ({name}); give a translation model")


def _check_language_pair(path: Path, configuration: DictConfig, task: FairseqTask) -> None:
    def pair(settings) -> tuple:
        return getattr(settings, "source_lang", None), getattr(settings, "target_lang", None)

    teacher, student = pair(configuration.task), pair(task.cfg)
    if None not in teacher + student and teacher != student:
        raise UserError(
            f"teacher {path} translates {'-'.join(teacher)}, but the student is trained on {'-'.join(student)}; "
            "give a teacher of the same direction"
        )


def _check_dictionaries(path: Path, configuration: DictConfig, weights: dict[str, Tensor], task: FairseqTask) -> None:
    sides = {"source": ("encoder", task.source_dictionary), "target": ("decoder", task.target_dictionary)}
    unchecked = []
    for side, (half, dictionary) in sides.items():
        language = getattr(configuration.task, f"{side}_lang", None) or getattr(task.cfg, f"{side}_lang", None)
        file = find_dictionary(path, configuration, f"dict.{language}.txt")
        if file is not None:
            symbols = type(task).load_dictionary(str(file)).symbols
            if symbols != dictionary.symbols:
                raise UserError(_difference(path, side, file, symbols, dictionary.symbols))
            continue
        unchecked.append(side)
        embedding = weights.get(f"{half}.embed_tokens.weight")
        if embedding is not None and embedding.size(0) != len(dictionary):
            raise UserError(
                f"teacher {path} has a {side} vocabulary of {embedding.size(0)} symbols, the student has "
                f"{len(dictionary)}; binarise the student's data with the teacher's dictionaries"
            )
    if unchecked:
        logger.warning(
            f"found no dictionaries beside {path} or in its training folder: the sizes fit, but the symbols of the "
            f"{' and '.join(unchecked)} are unchecked; put dict.*.txt beside the checkpoint to have them compared"
        )


def _difference(path: Path, side: str, file: Path, teacher: list[str], student: list[str]) -> str:
    different = [
        f"line {index}: {ours!r} / {theirs!r}"
        for index, (theirs, ours) in enumerate(zip(teacher, student, strict=False))
        if ours != theirs
    ]
    shown = "; ".join(different[:SYMBOLS_SHOWN]) or "the shorter dictionary is the beginning of the longer"
    return (
        f"teacher {path} was trained with another {side} dictionary, {file}: the student has {len(student)} symbols, "
        f"the teacher {len(teacher)}; first differences, student / teacher: {shown}; "
        "binarise the student's data with the teacher's dictionaries (fairseq-preprocess --srcdict --tgtdict)"
    )
