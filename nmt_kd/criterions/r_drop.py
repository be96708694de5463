"""R-Drop (Liang et al., NeurIPS 2021): without a teacher, two passes with different dropout learn from each other."""

from dataclasses import dataclass

from fairseq.criterions import register_criterion

from nmt_kd.criterions.base import Batch, Chunk, DistillationConfig, DistillationCriterion
from nmt_kd.losses.divergence_kinds import symmetric_kl_divergence
from nmt_kd.options import AT_LEAST_0, option


@dataclass
class RDropConfig(DistillationConfig):
    r_drop_alpha: float = option(5.0, "weight of the divergence between the two passes, 0 or more", AT_LEAST_0)


@register_criterion("r_drop", dataclass=RDropConfig)
class RDrop(DistillationCriterion):
    """`CE_1 + CE_2 + alpha (KL(p_1 || p_2) + KL(p_2 || p_1)) / 2`; gradients flow into both passes.

    The sum of both cross-entropies and the default alpha are those of the authors' code, which trains IWSLT14 with
    dropout 0.3. A student without dropout has two equal passes.
    """

    def passes(self, batch: Batch):
        yield batch.with_peer(batch.student.run_again()) if self.training else batch

    def token_losses(self, chunk: Chunk):
        if not self.training:
            return {}
        (second,) = chunk.peers
        divergence = symmetric_kl_divergence(chunk.student_log_p, second.log_p)
        # after the divergence, whose log-probabilities it uses
        cross_entropy, _ = second.cross_entropy(chunk.gold, self.cfg.label_smoothing)
        return {"second_ce_loss": cross_entropy, "r_drop_loss": divergence}

    def loss_weights(self, batch: Batch):
        return {"ce_loss": 1.0, "second_ce_loss": 1.0, "r_drop_loss": self.cfg.r_drop_alpha}
