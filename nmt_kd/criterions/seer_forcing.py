"""A second decoder that only training has; it learns beside the student's decoder and teaches it (seer forcing)."""

from dataclasses import dataclass, replace

import torch
from fairseq import models
from fairseq.criterions import register_criterion
from omegaconf import II

from nmt_kd.criterions.base import DistillationConfig, DistillationCriterion
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.options import SHARE, option


@dataclass
class SecondDecoderConfig(DistillationConfig):
    kd_alpha: float = option(0.5, "share of what the second decoder teaches: (1 - alpha) CE + alpha KD", SHARE)
    seed: int = II("common.seed")


@register_criterion("second_decoder", dataclass=SecondDecoderConfig)
class SecondDecoder(DistillationCriterion):
    """`(1 - alpha) CE + alpha KL(second || student) + CE(second)`."""

    def __init__(self, cfg, task):
        super().__init__(cfg, task)
        with torch.random.fork_rng():
            torch.manual_seed(cfg.seed)  # the same initial values on all workers
            self.second = models.build_model(cfg._get_root().model, task).decoder

    def passes(self, batch):
        second = batch.with_decoder(self.second)
        yield batch.taught_by(second.student)
        yield replace(second, auxiliary=True)

    def token_losses(self, chunk):
        if chunk.batch.auxiliary:
            return {"second_ce_loss": label_smoothed_cross_entropy(chunk.student_log_p, chunk.gold, 0.0)[0]}
        return {"kd_loss": chunk.teacher.divergence(chunk.student_log_p)}

    def loss_weights(self, batch):
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha, "second_ce_loss": 1.0}
