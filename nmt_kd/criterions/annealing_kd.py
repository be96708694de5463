"""Annealing distillation (Jafari et al., EACL 2021): first a teacher at a falling temperature, then none."""

import logging
import math
from dataclasses import dataclass
from typing import Any

from fairseq.criterions import register_criterion
from omegaconf import II

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, TeacherConfig
from nmt_kd.engine.predictions import FullDistribution
from nmt_kd.errors import UserError
from nmt_kd.losses.divergence import scaled_logit_error
from nmt_kd.losses.logits import Logits
from nmt_kd.losses.precision import at_least_float32
from nmt_kd.losses.schedule import annealing_scale, linear
from nmt_kd.options import SHARE, Allowed, one_of, option

logger = logging.getLogger(__name__)

HIGHEST_TEMPERATURE = {"kl": 1.1, "mse": 10.0}


@dataclass
class AnnealingKDConfig(TeacherConfig):
    kd_alpha: float = option(
        1.0, "share of the distillation term in the first stage: loss = (1 - alpha) CE + alpha KD; from 0 to 1", SHARE
    )
    annealing_loss: str = option(
        "kl",
        "first stage: 'kl' to the teacher's softmax at a falling temperature (the TIE-KD paper's recipe), or 'mse' "
        "between the logits, the teacher's times a rising factor (the original form)",
        one_of(*HIGHEST_TEMPERATURE),
    )
    annealing_temperature: float = option(
        0.0,
        "temperature at the first update; it falls linearly to 1 at the end of the first stage; "
        "0 means 1.1 for kl and 10 for mse",
        Allowed("1 or more, or 0 for the default", lambda value: value >= 1 or value == 0),
    )
    annealing_share: float = option(2 / 3, "share of the updates that form the first stage, from 0 to 1", SHARE)
    max_update: int = II("optimization.max_update")
    max_epoch: int = II("optimization.max_epoch")
    update_freq: Any = II("optimization.update_freq")  # noqa: RUF009  (II returns a string that stands for a list)
    skip_remainder_batch: bool = II("optimization.skip_remainder_batch")


@register_criterion("annealing_kd", dataclass=AnnealingKDConfig)
class AnnealingKD(DistillationCriterion):
    """`(1 - alpha) CE + alpha KD(T)` for the first 2/3 of the training, then CE without the teacher.

    The schedule depends only on the number of updates and the length of the training when it began, so it survives a
    restart, also one with another --max-update. In validation, `kd_loss` is the divergence at temperature 1 in both
    stages.
    """

    needs = FullDistribution()

    def __init__(self, cfg: AnnealingKDConfig, task):
        super().__init__(cfg, task)
        self.begun: dict[str, int] = {}  # the first stage's length with which the training began
        self.restored = False  # from a checkpoint, and no update since

    def check_settings(self):
        super().check_settings()
        if self.cfg.max_update <= 0 and self.cfg.max_epoch <= 0:
            raise UserError("annealing_kd needs to know the length of the training; give --max-update or --max-epoch")

    @property
    def temperature(self) -> float:
        """The teacher's temperature at the current update; 1 once the first stage is over."""
        highest = self.cfg.annealing_temperature or HIGHEST_TEMPERATURE[self.cfg.annealing_loss]
        return linear(highest, 1.0, self.progress.updates, self.first_stage_updates)

    @property
    def first_stage_updates(self) -> int:
        """The number of updates in the first stage."""
        return self.begun["first_stage_updates"] if self.begun else self.planned_first_stage_updates

    @property
    def planned_first_stage_updates(self) -> int:
        """The number of updates in the first stage of a training that begins with the present settings."""
        return math.floor(self.cfg.annealing_share * self.training_updates + 1e-6)

    @property
    def training_updates(self) -> float:
        """The length of the training in updates, whichever limit comes first."""
        limits = [self.cfg.max_update] if self.cfg.max_update > 0 else []
        if self.cfg.max_epoch > 0:
            epochs = range(self.cfg.max_epoch)
            iterator = self.task.dataset_to_epoch_iter.get(self.task.dataset(self.cfg.train_subset))
            if iterator is None:
                raise UserError(
                    "annealing_kd cannot tell how many updates an epoch has: fairseq makes new batches for every epoch "
                    "(several data folders, or --update-epoch-batch-itr); give --max-update instead of --max-epoch"
                )
            batches = len(iterator)
            batches -= self.cfg.skip_remainder_batch  # fairseq then drops the last batch and incomplete updates
            round_up_or_down = math.floor if self.cfg.skip_remainder_batch else math.ceil
            frequencies = [self.cfg.update_freq[min(epoch, len(self.cfg.update_freq) - 1)] for epoch in epochs]
            limits.append(sum(round_up_or_down(batches / frequency) for frequency in frequencies))
        return min(limits)

    @property
    def distils(self) -> bool:
        """Whether the training is in its first stage."""
        return self.progress.updates < self.first_stage_updates

    def update_state(self, batch: Batch):
        if self.progress.is_dummy_batch:
            return
        kept, planned = self.first_stage_updates, self.planned_first_stage_updates
        if kept != planned and self.restored:
            logger.info(  # fairseq shows it once, but a warning once for each worker
                f"annealing_kd keeps the first stage of {kept} updates that this training began with; these settings "
                f"would give {planned}. To use them, train in another --save-dir"
            )
        self.restored = False
        self.begun = {"first_stage_updates": kept}

    def token_losses(self, chunk: Chunk):
        if not self.training:
            return {"kd_loss": chunk.teacher.divergence(chunk.student)}
        if not self.distils:
            return {}
        if self.cfg.annealing_loss == "mse":
            highest = self.cfg.annealing_temperature or HIGHEST_TEMPERATURE["mse"]
            scale = annealing_scale(self.temperature, highest)
            return {"kd_loss": scaled_logit_error(chunk.student_logits, chunk.teacher_logits, scale)}
        softened = Logits.of(at_least_float32(chunk.teacher_logits) / self.temperature)
        return {"kd_loss": chunk.student.kl_divergence_from(softened)}

    def loss_weights(self, batch: Batch):
        if not self.distils:
            return {"ce_loss": 1.0}
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha}

    def get_extra_state(self):
        return self.begun

    def set_extra_state(self, state):
        self.begun, self.restored = state, bool(state)
