"""Word-level knowledge distillation (Kim & Rush, 2016): match the teacher's distribution at every target token."""

import logging
from dataclasses import dataclass

from fairseq.criterions import register_criterion

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, InterpolationConfig
from nmt_kd.criterions.config import DivergenceConfig, divergence_of
from nmt_kd.engine.predictions import TopWords
from nmt_kd.options import ABOVE_0, option

logger = logging.getLogger(__name__)


@dataclass
class WordKDConfig(DivergenceConfig, InterpolationConfig):
    kd_temperature: float = option(
        1.0,
        "temperature that divides both models' logits, above 0; the divergence is multiplied by its square",
        ABOVE_0,
    )


@register_criterion("word_kd", dataclass=WordKDConfig)
class WordKD(DistillationCriterion):
    """`(1 - alpha) CE + alpha KL(teacher || student)`; with alpha = 0.1 it is RKD in the CKD paper.

    `--kd-divergence` replaces KL; reverse KL, JS and TVD are compared for translation by Wen et al. (ACL 2023).
    """

    needs = TopWords(1)

    def __init__(self, cfg: WordKDConfig, task):
        super().__init__(cfg, task)
        if cfg.teacher_cache and cfg.kd_temperature != 1:
            logger.info(
                f"--kd-temperature {cfg.kd_temperature:g} is approximate with --teacher-cache: the teacher's mass "
                "outside its cached words is taken to be distributed as the student's"
            )

    def token_losses(self, chunk: Chunk):
        kind = divergence_of(self.cfg)
        return {"kd_loss": chunk.teacher.divergence(chunk.student, self.cfg.kd_temperature, kind)}

    def loss_weights(self, batch: Batch):
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha}
