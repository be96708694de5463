"""R-Drop (Liang et al., NeurIPS 2021): without a teacher, two passes with other dropout learn from each other."""

from dataclasses import dataclass

from fairseq.criterions import register_criterion

from nmt_kd.criterions.base import DistillationConfig, DistillationCriterion
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.options import AT_LEAST_0, option


@dataclass
class RDropConfig(DistillationConfig):
    r_drop_alpha: float = option(5.0, "weight of the divergence between the two passes, 0 or more", AT_LEAST_0)


@register_criterion("r_drop", dataclass=RDropConfig)
class RDrop(DistillationCriterion):
    """`CE_1 + CE_2 + alpha (KL(p_1 || p_2) + KL(p_2 || p_1)) / 2`."""

    def passes(self, batch):
        yield batch.with_peer(batch.student.run_again()) if self.training else batch

    def token_losses(self, chunk):
        if not self.training:
            return {}
        first, (second,) = chunk.student_log_p, chunk.peers_log_p
        cross_entropy, _ = label_smoothed_cross_entropy(second, chunk.gold, self.cfg.label_smoothing)
        divergence = ((first.exp() - second.exp()) * (first - second)).sum(-1) / 2
        return {"second_ce_loss": cross_entropy, "r_drop_loss": divergence}

    def loss_weights(self, batch):
        return {"ce_loss": 1.0, "second_ce_loss": 1.0, "r_drop_loss": self.cfg.r_drop_alpha}
