"""The fairseq teacher: one or several checkpoints, frozen, on the student's device and in its precision.

A teacher is not a `torch.nn.Module`, so it is never saved, optimised or synchronised between workers.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

import torch
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.engine.chunks import Projection, per_token
from nmt_kd.engine.distribution import Distribution, WholeDistribution
from nmt_kd.engine.loading import load_model
from nmt_kd.engine.models import ModelOutput, run_model
from nmt_kd.engine.predictions import Predictions, PredictionSource
from nmt_kd.errors import UserError
from nmt_kd.losses.precision import log_probabilities

logger = logging.getLogger(__name__)


class Teacher(PredictionSource):
    """One model, or an ensemble whose probabilities are averaged."""

    models: list[BaseFairseqModel]

    def __init__(self, models: list[BaseFairseqModel], fingerprint: str = "", paths: Sequence[Path] = ()):
        """Make a teacher of `models` with a fingerprint, by default that of the files in `paths`."""
        self.models, self.paths = models, paths
        self.autocast_dtype: torch.dtype | None = None  # that of --amp once a batch has run under it
        if fingerprint:
            self.fingerprint = fingerprint
        for model in models:
            model.eval()  # returns nothing once fairseq has prepared the model for inference
            model.requires_grad_(False)

    @classmethod
    def load(cls, teacher_path: str, task: FairseqTask, masked: bool = False) -> "Teacher":
        """Return the teacher in `a.pt`, or the ensemble `a.pt:b.pt`, with the dictionaries of the student's `task`.

        With `masked`, these are masked models, which `read` cannot run. Raises UserError if no file is named, or a file
        is unusable or does not fit (see `load_model`).
        """
        paths = [Path(path) for path in teacher_path.split(":") if path]
        if not paths:
            raise UserError("no teacher given; name a fairseq checkpoint with --teacher-path")
        return cls([load_model(path, task, masked) for path in paths], paths=paths)

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """The hashes of the files, which are read completely when this is first used."""
        return "+".join(file_hash(path) for path in self.paths)

    def max_positions(self) -> tuple[int, int]:
        """Return the lengths of the longest source and target that every model accepts, in tokens."""
        sources, targets = zip(*(model.max_positions() for model in self.models), strict=True)
        return min(sources), min(targets)

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> "ModelPredictions":
        """Return the predictions for fairseq's `sample`, see `TeacherSource`; UserError if a sentence is too long."""
        net_input, like = sample["net_input"], self.as_autocast(like)
        self._check_lengths(net_input)

        def run() -> list[ModelOutput]:
            self.follow(like)
            return [run_model(model, net_input, token_index) for model in self.models]

        return ModelPredictions(run)

    def as_autocast(self, like: Tensor) -> Tensor:
        """Return a tensor with the device and precision for the teacher: those of `like`, but autocast's under --amp.

        Autocast would convert the frozen weights at every use, so they are converted once. They stay converted in
        validation, for which fairseq turns autocast off.
        """
        device = like.device.type
        if like.dtype != torch.float32:
            return like
        if torch.is_autocast_enabled(device):
            self.autocast_dtype = torch.get_autocast_dtype(device)
        return like if self.autocast_dtype is None else like.new_empty((), dtype=self.autocast_dtype)

    def follow(self, like: Tensor) -> None:
        """Move the models to the device of `like` and convert them to its precision."""
        for model in self.models:
            parameter = next(model.parameters())
            if parameter.device != like.device or parameter.dtype != like.dtype:
                model.to(device=like.device, dtype=like.dtype)

    def warn_of_longer_students(self, allowed: tuple[int, int] | None) -> None:
        """Warn if the student accepts longer sentences than the teacher, on which `read` will fail.

        `allowed` are the student's numbers of source and target positions, None if unknown.
        """
        for side, longest, students in zip(("source", "target"), self.max_positions(), allowed or (0, 0), strict=True):
            if students > longest:
                logger.warning(
                    f"the teacher has {longest:,} {side} positions, the student {students:,}; a longer sentence will "
                    f"end the training, so give the student --max-{side}-positions {longest}"
                )

    def _check_lengths(self, net_input: dict) -> None:
        lengths = net_input["src_tokens"].size(1), net_input["prev_output_tokens"].size(1)
        for side, length, longest in zip(("source", "target"), lengths, self.max_positions(), strict=True):
            if length > longest:
                raise UserError(
                    f"a {side} sentence of {length} tokens is longer than the teacher's {longest} positions; "
                    f"give the student --max-{side}-positions {longest} and --skip-invalid-size-inputs-valid-test"
                )


class ModelPredictions(Predictions):
    """The predictions of one model or an ensemble, which run when their predictions are first used."""

    def __init__(self, run: Callable[[], list[ModelOutput]]):
        self._run = run

    @cached_property
    def outputs(self) -> list[ModelOutput]:
        with torch.no_grad(), _without_autocast():
            return self._run()

    @property
    def projections(self) -> list[Projection]:
        """The projection of each model."""
        return [output.projection for output in self.outputs]

    def logits(self, rows: slice) -> Tensor:
        """Return the logits of some tokens, [rows, V]; an ensemble's are the logs of its averaged probabilities."""
        with torch.no_grad():
            if len(self.outputs) == 1:
                return self.projections[0].logits(rows)
            members = [log_probabilities(projection.logits(rows)) for projection in self.projections]
            return torch.stack(members).logsumexp(0) - math.log(len(members))

    def predict(self, rows: slice) -> Distribution:
        return WholeDistribution(self.logits(rows))

    def first_choices(self, chunk_tokens: int = 0) -> Tensor:
        return per_token(self.logits, self.projections[0], lambda logits, rows: logits.argmax(-1), chunk_tokens)

    def decode(self, prev_output_tokens: Tensor) -> "ModelPredictions":
        return ModelPredictions(lambda: [output.decode(prev_output_tokens) for output in self.outputs])


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Compute in the precision of the weights within the block."""
    with ExitStack() as stack:
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield
