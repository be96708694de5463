"""Load models from fairseq checkpoints: a teacher's, which must fit the student's data, or those that fairseq runs."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from fairseq import checkpoint_utils
from fairseq import models as fairseq_models
from fairseq.data import data_utils
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY, BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.models.nat import CMLMNATransformerModel, FairseqNATModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, open_dict

from nmt_kd.checkpoints.dictionaries import check_dictionaries
from nmt_kd.checkpoints.reading import read_model
from nmt_kd.errors import UserError, in_one_line

WITH_THE_TEACHERS = (
    "binarise the student's data with the teacher's dictionaries (fairseq-preprocess --srcdict --tgtdict)"
)


def load_model(path: Path, task: FairseqTask, masked: bool = False) -> BaseFairseqModel:
    """Return a checkpoint's model, built from its own configuration with the dictionaries of `task`.

    Raises UserError if the file is unusable, if its weights are not finite, if its language pair or dictionaries differ
    from those of `task`, or if the model is of the wrong kind. The right kind is an encoder-decoder that predicts each
    word from those before it or, with `masked`, from those on both sides.
    """
    state = read_model(path)
    configuration = state["cfg"]
    _check_kind(path, configuration, masked)
    _check_language_pair(path, configuration, task)
    check_dictionaries(path, state, task, WITH_THE_TEACHERS)
    with open_dict(configuration):
        for name in ("encoder_embed_path", "decoder_embed_path"):  # the checkpoint contains the embeddings
            if getattr(configuration.model, name, None):
                setattr(configuration.model, name, None)
    # Not task.build_model: with --eval-bleu that would make the teacher the model whose BLEU is reported.
    model = fairseq_models.build_model(configuration.model, task, from_checkpoint=True)
    try:
        model.load_state_dict(state["model"], strict=True, model_cfg=configuration.model)
    except (RuntimeError, KeyError) as error:
        detail = in_one_line(error)
        raise UserError(
            f"teacher {path} does not fit the model that its own configuration describes: {detail}; "
            "give the checkpoint as fairseq-train wrote it"
        ) from None
    _check_finite(path, model)
    return model


def _check_finite(path: Path, model: BaseFairseqModel) -> None:
    for name, weights in model.named_parameters():
        if not weights.isfinite().all():
            raise UserError(
                f"teacher {path} has NaN or infinity in {name}, so its training has diverged; "
                "give an earlier checkpoint"
            )


def _model_name(configuration: DictConfig) -> str | None:
    return getattr(configuration.model, "_name", None) or getattr(configuration.model, "arch", None)


def _check_kind(path: Path, configuration: DictConfig, masked: bool) -> None:
    name = _model_name(configuration)
    kind = ARCH_MODEL_REGISTRY.get(name) or MODEL_REGISTRY.get(name)
    if kind is None:
        raise UserError(f"teacher {path} has the unknown architecture {name}; add the --user-dir that registers it")
    if not issubclass(kind, FairseqEncoderDecoderModel):
        raise UserError(f"teacher {path} is not an encoder-decoder model ({name}); give a translation model")
    if masked and not issubclass(kind, CMLMNATransformerModel):
        raise UserError(f"teacher {path} is not a masked model ({name}); give one with --arch cmlm_transformer")
    if not masked and issubclass(kind, FairseqNATModel):
        raise UserError(
            f"teacher {path} does not predict word by word ({name}); if it is a cmlm_transformer, write its "
            "predictions with nmt-kd cache --source masked, and train with --teacher-cache"
        )


def _check_language_pair(path: Path, configuration: DictConfig, task: FairseqTask) -> None:
    def pair(settings) -> tuple:
        languages = getattr(settings, "source_lang", None), getattr(settings, "target_lang", None)
        folder = Path(str(getattr(settings, "data", None)).split(":")[0])
        if None in languages and folder.is_dir():  # fairseq found the languages there, and did not save them
            languages = data_utils.infer_language_pair(str(folder))
        return tuple(languages)

    teacher, student = pair(configuration.task), pair(task.cfg)
    if None not in teacher + student and teacher != student:
        raise UserError(
            f"teacher {path} translates {'-'.join(teacher)}, but the student is trained on {'-'.join(student)}; "
            "give a teacher of the same direction"
        )


@dataclass(frozen=True)
class LoadedCheckpoints:
    """The model of a fairseq checkpoint, or an ensemble."""

    paths: list[Path]
    models: list[BaseFairseqModel]
    load_seconds: float

    @property
    def parameters(self) -> int:
        """The number of parameters; shared ones count once."""
        return sum(parameter.numel() for model in self.models for parameter in model.parameters())

    def rounded(self, dtype: torch.dtype) -> "LoadedCheckpoints":
        """Return a copy that computes in float32 with weights rounded to `dtype`."""
        models = [copy.deepcopy(model).to(dtype).float() for model in self.models]
        return LoadedCheckpoints(self.paths, models, self.load_seconds)


def load_checkpoints(paths: list[Path], task: FairseqTask) -> LoadedCheckpoints:
    """Load checkpoints as fairseq-generate does, without the state of the optimiser, and time it."""
    started = time.perf_counter()
    models = []
    for path in paths:
        (model,), _ = checkpoint_utils.load_model_ensemble([str(path)], task=task, state=read_model(path))
        models.append(model)
    return LoadedCheckpoints(paths, models, time.perf_counter() - started)
