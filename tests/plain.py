"""The plain forms of what `nmt_kd.losses.logits.Logits` computes: all log-probabilities, differentiated by autograd."""

from dataclasses import dataclass

from torch import Tensor

from nmt_kd.losses.divergence import kl_divergence
from nmt_kd.losses.logits import Logits


@dataclass
class Plain:
    """A student's log-probabilities, [tokens, V], which may be part of a graph."""

    log_p: Tensor

    def log_p_of(self, words: Tensor) -> Tensor:
        return self.log_p.gather(-1, words)

    def kl_divergence_from(self, teacher: Logits) -> Tensor:
        return kl_divergence(self.log_p, teacher.log_p)
