"""The teacher: one or several fairseq checkpoints, frozen, checked, on the student's device and in its precision.

A teacher is no `torch.nn.Module`, so nothing that saves, optimises or reduces the student's side ever sees it.
"""

import logging
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from fairseq import models as fairseq_models
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY, BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, open_dict
from torch import Tensor

from nmt_kd.checkpoints.dictionaries import find_dictionary
from nmt_kd.checkpoints.reading import file_hash, read_checkpoint
from nmt_kd.engine.chunks import Projection, in_chunks
from nmt_kd.engine.distribution import Prediction, WholePrediction
from nmt_kd.engine.models import Reading, read_features
from nmt_kd.errors import UserError
from nmt_kd.losses.precision import log_probabilities

logger = logging.getLogger(__name__)

SYMBOLS_SHOWN = 3


class Teacher:
    """One model, or an ensemble whose probabilities are averaged."""

    def __init__(self, models: list[BaseFairseqModel], fingerprint: str):
        self.models = models
        self.fingerprint = fingerprint
        for model in models:
            model.eval()  # returns nothing once fairseq has prepared the model for inference
            model.requires_grad_(False)

    @classmethod
    def load(cls, teacher_path: str, task: FairseqTask) -> "Teacher":
        """Build a teacher from `a.pt` or `a.pt:b.pt`, with the dictionaries of the student's `task`.

        Each model is built from its own checkpoint's configuration. Raises UserError where a file is unusable or the
        teacher does not fit: another language pair, other dictionaries, not an encoder-decoder.
        """
        paths = [Path(path) for path in teacher_path.split(":") if path]
        if not paths:
            raise UserError("no teacher is named; give a fairseq checkpoint with --teacher-path")
        models = [_load_model(path, task) for path in paths]
        return cls(models, "+".join(file_hash(path) for path in paths))

    def max_positions(self) -> tuple[int, int]:
        """The longest source and the longest target that every model of the teacher can read, in tokens."""
        sources, targets = zip(*(model.max_positions() for model in self.models), strict=True)
        return min(sources), min(targets)

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> "TeacherReading":
        """What the teacher says about fairseq's `sample`; `token_index` is that of `read_features`.

        The models run when something of it is first asked for, on the device and in the precision of `like`.
        """
        net_input = sample["net_input"]
        self._check_lengths(net_input)
        return TeacherReading(lambda: self._run(net_input, token_index, like))

    def _run(self, net_input: dict, token_index: Tensor, like: Tensor) -> list[Reading]:
        self._follow(like)
        with torch.no_grad():
            return [read_features(model, net_input, token_index) for model in self.models]

    def _follow(self, like: Tensor) -> None:
        for model in self.models:
            own = next(model.parameters())
            if own.device != like.device or own.dtype != like.dtype:
                model.to(device=like.device, dtype=like.dtype)

    def _check_lengths(self, net_input: dict) -> None:
        lengths = net_input["src_tokens"].size(1), net_input["prev_output_tokens"].size(1)
        for side, length, longest in zip(("source", "target"), lengths, self.max_positions(), strict=True):
            if length > longest:
                raise UserError(
                    f"a {side} sentence of {length} tokens is longer than the {longest} positions of the teacher; "
                    f"give the student --max-{side}-positions {longest} and --skip-invalid-size-inputs-valid-test"
                )


class TeacherReading:
    """What a teacher says about some target tokens; its models run when this is first asked for."""

    def __init__(self, run: Callable[[], list[Reading]], prev_output_tokens: Tensor | None = None):
        self._run = run
        self._prev_output_tokens = prev_output_tokens

    @cached_property
    def readings(self) -> list[Reading]:
        """What each model of the teacher returned for the batch's own decoder inputs."""
        return self._run()

    @cached_property
    def projections(self) -> list[Projection]:
        """Features and output weights of each model."""
        if self._prev_output_tokens is None:
            return [reading.projection for reading in self.readings]
        with torch.no_grad():
            return [reading.decode_again(self._prev_output_tokens) for reading in self.readings]

    def logits(self, rows: slice) -> Tensor:
        """The logits [rows, V] of any slice of the tokens; an ensemble's are the logs of its averaged probabilities."""
        if len(self.projections) == 1:
            return self.projections[0].logits(rows)
        members = [log_probabilities(projection.logits(rows)) for projection in self.projections]
        return torch.stack(members).logsumexp(0) - math.log(len(members))

    def predict(self, rows: slice) -> WholePrediction:
        """The distributions at any slice of the tokens."""
        return WholePrediction(self.logits(rows))

    def first_choices(self, chunk_size: int = 0) -> Tensor:
        """The most probable symbol at each of the tokens, [tokens]."""
        return in_chunks(self.logits, self.projections[0], lambda logits, rows: logits.argmax(-1), chunk_size)

    def decode_again(self, prev_output_tokens: Tensor) -> "TeacherReading":
        """The same tokens with other decoder inputs [batch, length]; the encoders do not run again."""
        return TeacherReading(lambda: self.readings, prev_output_tokens)


class ChanceCheck:
    """Refuse a teacher that knows no more of the first batches than a uniform guess: its data is not this data."""

    TOKENS = 1000

    def __init__(self) -> None:
        self.tokens = 0
        self.nll = 0.0

    @property
    def done(self) -> bool:
        return self.tokens >= self.TOKENS

    def observe(self, teacher: Prediction, gold: Tensor) -> None:
        """Count `gold` [tokens] under what the teacher predicts there; UserError once enough say no."""
        if self.done:
            return
        self.tokens += gold.numel()
        self.nll += teacher.nll(gold).sum().item()
        chance = math.log(teacher.vocabulary_size)
        if self.done and not self.nll / self.tokens < chance:
            raise UserError(
                f"the teacher predicts the first {self.tokens} training tokens no better than chance "
                f"({self.nll / self.tokens:.2f} nats a token, a uniform guess has {chance:.2f}); "
                "check its dictionaries, subword model and language direction"
            )


def _load_model(path: Path, task: FairseqTask) -> BaseFairseqModel:
    state = read_checkpoint(path)
    configuration = state["cfg"]
    _check_is_encoder_decoder(path, configuration)
    _check_language_pair(path, configuration, task)
    _check_dictionaries(path, configuration, state["model"], task)
    with open_dict(configuration):
        for name in ("encoder_embed_path", "decoder_embed_path"):  # the checkpoint holds the embeddings already
            if getattr(configuration.model, name, None):
                setattr(configuration.model, name, None)
    # Not task.build_model: with --eval-bleu that would make the teacher the model whose BLEU is reported.
    model = fairseq_models.build_model(configuration.model, task, from_checkpoint=True)
    try:
        model.load_state_dict(state["model"], strict=True, model_cfg=configuration.model)
    except (RuntimeError, KeyError) as error:
        detail = " ".join(str(error).split())[:300]
        raise UserError(f"teacher {path} does not fit the model its own configuration describes: {detail}") from None
    return model


def _model_name(configuration: DictConfig) -> str | None:
    return getattr(configuration.model, "_name", None) or getattr(configuration.model, "arch", None)


def _check_is_encoder_decoder(path: Path, configuration: DictConfig) -> None:
    name = _model_name(configuration)
    kind = ARCH_MODEL_REGISTRY.get(name) or MODEL_REGISTRY.get(name)
    if kind is None:
        raise UserError(f"teacher {path} is of an unknown architecture, {name}; add the --user-dir that registers it")
    if not issubclass(kind, FairseqEncoderDecoderModel):
        raise UserError(f"teacher {path} is no encoder-decoder model ({name}); a translation model is needed")


def _check_language_pair(path: Path, configuration: DictConfig, task: FairseqTask) -> None:
    def pair(settings) -> tuple:
        return getattr(settings, "source_lang", None), getattr(settings, "target_lang", None)

    teacher, student = pair(configuration.task), pair(task.cfg)
    if None not in teacher + student and teacher != student:
        raise UserError(
            f"teacher {path} translates {'-'.join(teacher)}, the student is trained on {'-'.join(student)}; "
            "take a teacher of the same direction"
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
                f"teacher {path} has a {side} vocabulary of {embedding.size(0)} symbols, the student of "
                f"{len(dictionary)}; binarise the student's data with the teacher's dictionaries"
            )
    if unchecked:
        logger.warning(
            f"no dictionaries beside {path} or in the folder it was trained on: the sizes fit, but the symbols of "
            f"the {' and '.join(unchecked)} are unchecked; put dict.*.txt beside the checkpoint to have them compared"
        )


def _difference(path: Path, side: str, file: Path, teacher: list[str], student: list[str]) -> str:
    different = [
        f"line {index}: {ours!r} / {theirs!r}"
        for index, (theirs, ours) in enumerate(zip(teacher, student, strict=False))
        if ours != theirs
    ]
    shown = "; ".join(different[:SYMBOLS_SHOWN]) or "the shorter is the beginning of the longer"
    return (
        f"teacher {path} was trained with another {side} dictionary, {file}: {len(student)} symbols of the student, "
        f"{len(teacher)} of the teacher; first differences, student / teacher: {shown}; "
        "binarise the student's data with the teacher's dictionaries (fairseq-preprocess --srcdict --tgtdict)"
    )
