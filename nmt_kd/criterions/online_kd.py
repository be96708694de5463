"""Online distillation from checkpoints (Wei et al., NAACL 2019): the student learns from its own past."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from fairseq.criterions import register_criterion
from fairseq.tasks.multilingual_translation import MultilingualTranslationTask
from omegaconf import II
from torch import Tensor, nn

from nmt_kd.criterions.base import Batch, Chunk, DistillationConfig, DistillationCriterion
from nmt_kd.criterions.student import another_student
from nmt_kd.criterions.validations import Validations
from nmt_kd.engine.predictions import FullDistribution
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.losses.precision import at_least_float32
from nmt_kd.options import AT_LEAST_0, SHARE, one_of, option

logger = logging.getLogger(__name__)

ModelWeights = Mapping[str, Tensor]


@dataclass
class OnlineKDConfig(DistillationConfig):
    kd_alpha: float = option(
        0.5, "share of the distillation term while it is on: loss = (1 - alpha) CE + alpha KD; from 0 to 1", SHARE
    )
    online_teacher: str = option(
        "ema",
        "what becomes the teacher after the best validation so far: the running average of the student's weights "
        "('ema') or the weights themselves ('best')",
        one_of("ema", "best"),
    )
    online_ema_rate: float = option(0.01, "weight of the newest weights in the running average, from 0 to 1", SHARE)
    online_patience: int = option(
        1,
        "number of validations in a row without a new best that turn distillation on; the next best turns it off; with "
        "0 it is always on",
        AT_LEAST_0,
    )
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    maximize_best_checkpoint_metric: bool = II("checkpoint.maximize_best_checkpoint_metric")
    disable_validation: bool = II("dataset.disable_validation")
    valid_subset: str = II("dataset.valid_subset")


@register_criterion("online_kd", dataclass=OnlineKDConfig)
class OnlineKD(DistillationCriterion):
    """`(1 - alpha) CE + alpha KL(past student || student)` while validation finds no new best, else CE.

    As in the authors' code, each validation that is as good as the best by `--best-checkpoint-metric` makes the average
    the teacher. Average, teacher and switches are saved with the criterion. Every worker has the same, because they
    depend on parameters and validations alone.
    """

    learns_from_validation = True
    needs = FullDistribution()  # a cache cannot provide it, because the teacher changes during training

    def __init__(self, cfg: OnlineKDConfig, task):
        super().__init__(cfg, task)
        self.validations = Validations.of(task, cfg.best_checkpoint_metric)
        self.average: dict[str, Tensor] | None = None  # in float32 at least
        self.averaged_at = -1  # the number of updates when the average was last brought up to date
        self.best: float | None = None
        self.misses = 0  # validations since the best
        if cfg.disable_validation and cfg.online_patience:
            logger.warning("without validation, online_kd never distils; remove --disable-validation")

    def open_teacher(self, task):
        if isinstance(task, MultilingualTranslationTask):
            raise UserError("online_kd cannot train with --task multilingual_translation; choose multilingual_kd")
        return None  # until the first validation

    def prepare(self, model, sample):
        if self.teacher is None and self.cfg.online_patience == 0:  # before the first validation: the initial weights
            self._set_teacher(_weights(model))
        return sample

    def update_state(self, batch: Batch):
        if self.progress.is_dummy_batch and self.averaged_at < 0:
            return  # a worker that has had no batch yet begins with its first
        weights = _weights(batch.student.model)
        if self.cfg.online_teacher == "ema":
            weights = self._averaged(weights)
        self.averaged_at = self.progress.updates
        result = self.validations.take()
        is_best = result is not None and self._is_best(result)
        if result is not None:
            self.misses = 0 if is_best else self.misses + 1
            state = "on" if self.misses >= self.cfg.online_patience else "off"
            logger.info(f"validations since the best: {self.misses}; distillation is {state}")
        if is_best:
            self.best = result
            self._set_teacher(weights)

    def token_losses(self, chunk: Chunk):
        if chunk.batch.teacher is None or (self.training and not self.distils(chunk.batch)):
            return {}
        return {"kd_loss": chunk.teacher.divergence(chunk.student)}

    def loss_weights(self, batch: Batch):
        if not self.distils(batch):
            return {"ce_loss": 1.0}
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha}

    def distils(self, batch: Batch) -> bool:
        """Whether the teacher exists and distillation is on."""
        return batch.teacher is not None and self.misses >= self.cfg.online_patience

    # -- average, teacher and switches --------------------------------------------------------------------------------

    def _is_best(self, result: float) -> bool:
        if self.best is None:
            return True
        return result >= self.best if self.cfg.maximize_best_checkpoint_metric else result <= self.best

    @torch.no_grad()
    def _averaged(self, weights: ModelWeights) -> ModelWeights:
        """Return the running average, with these weights added once for each number of updates."""
        if self.average is None:
            self.average = {name: at_least_float32(value.detach()).clone() for name, value in weights.items()}
        elif self.progress.updates != self.averaged_at:
            for name, value in weights.items():
                newest = at_least_float32(value.detach())
                self.average[name] = self.average[name].to(newest).lerp_(newest, self.cfg.online_ema_rate)
        return self.average

    @torch.no_grad()
    def _set_teacher(self, weights: ModelWeights) -> None:
        if self.teacher is None:
            self.teacher = Teacher([another_student(self.cfg, self.task)], "the student's past")
            self.teacher.is_trained = False  # it may be no better than chance
        for name, value in self.teacher.models[0].named_parameters():
            value.copy_(weights[name])

    def get_extra_state(self):
        teacher = None if self.teacher is None else dict(self.teacher.models[0].named_parameters())
        return {
            "average": _on_cpu(self.average),
            "averaged_at": self.averaged_at,
            "past": _on_cpu(teacher),
            "best": self.best,
            "misses": self.misses,
            "validated_at": self.validations.at_update,
            "result": self.validations.result,
        }

    def set_extra_state(self, state):
        if not state:
            return
        self.average, self.averaged_at = state["average"], state["averaged_at"]
        self.best, self.misses = state["best"], state["misses"]
        self.validations.at_update, self.validations.result = state["validated_at"], state["result"]
        if state["past"] is None:
            self.teacher = None
        else:
            self._set_teacher(state["past"])


def _weights(model: nn.Module) -> ModelWeights:
    """Return the weights of the model inside the wrappers of fairseq and torch for several workers."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return dict(model.named_parameters())


def _on_cpu(weights: ModelWeights | None) -> ModelWeights | None:
    return None if weights is None else {name: value.detach().cpu() for name, value in weights.items()}
