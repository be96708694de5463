"""Word-level knowledge distillation (Kim & Rush, 2016): match the teacher's distribution at every target token."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion

from nmt_kd.criterions.distillation import Chunk, DistillationConfig, DistillationCriterion, require
from nmt_kd.losses.divergence import kl_divergence


@dataclass
class WordKDConfig(DistillationConfig):
    kd_alpha: float = field(
        default=0.5,
        metadata={"help": "share of the distillation term: loss = (1 - alpha) CE + alpha KD; from 0 to 1"},
    )
    kd_temperature: float = field(
        default=1.0,
        metadata={"help": "divides both models' logits, above 0; the divergence is multiplied by its square"},
    )


@register_criterion("word_kd", dataclass=WordKDConfig)
class WordKD(DistillationCriterion):
    """`(1 - alpha) CE + alpha KL(teacher || student)`. RKD of the CKD paper is this with alpha = 0.1."""

    def check_settings(self):
        super().check_settings()
        require(0 <= self.cfg.kd_alpha <= 1, "--kd-alpha", self.cfg.kd_alpha, "from 0 to 1")
        require(self.cfg.kd_temperature > 0, "--kd-temperature", self.cfg.kd_temperature, "above 0")

    def token_losses(self, chunk: Chunk):
        return {"kd_loss": kl_divergence(chunk.student_logits, chunk.teacher_logits, self.cfg.kd_temperature)}

    def loss_weights(self):
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha}
