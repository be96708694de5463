"""Word-level knowledge distillation (Kim & Rush, 2016): match the teacher's distribution at every target token."""

from dataclasses import dataclass

from fairseq.criterions import register_criterion

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, InterpolationConfig
from nmt_kd.engine.predictions import FullDistribution, TopWords
from nmt_kd.losses.divergence import kl_divergence
from nmt_kd.options import Allowed, option


@dataclass
class WordKDConfig(InterpolationConfig):
    kd_temperature: float = option(
        1.0,
        "temperature that divides both models' logits, above 0; the divergence is multiplied by its square",
        Allowed("above 0", lambda value: value > 0),
    )


@register_criterion("word_kd", dataclass=WordKDConfig)
class WordKD(DistillationCriterion):
    """`(1 - alpha) CE + alpha KL(teacher || student)`; with alpha = 0.1 it is RKD in the CKD paper."""

    settings_for_a_cache = "--kd-temperature 1"

    @property
    def needs(self):
        return TopWords(1) if self.cfg.kd_temperature == 1 else FullDistribution()

    def token_losses(self, chunk: Chunk):
        if self.cfg.kd_temperature == 1:
            return {"kd_loss": chunk.teacher.divergence(chunk.student_log_p)}
        return {"kd_loss": kl_divergence(chunk.student_log_p, chunk.teacher_log_q, self.cfg.kd_temperature)}

    def loss_weights(self, batch: Batch):
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha}
