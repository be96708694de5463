"""What a teacher predicts at some tokens: the whole distribution, or its top words and the mass of the rest."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nmt_kd.losses.divergence import LOG_OF_NOTHING, coarse_divergence, kl_divergence
from nmt_kd.losses.precision import log_probabilities
from nmt_kd.losses.top_k import top_k_indices


@dataclass(frozen=True)
class WholePrediction:
    """A distribution over all words, as logits [tokens, V]."""

    logits: Tensor

    @cached_property
    def log_q(self) -> Tensor:
        """Log-probabilities [tokens, V], float32 or float64, without gradients."""
        return log_probabilities(self.logits.detach())

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.logits.size(-1)

    @property
    def first_choice(self) -> Tensor:
        """The most probable word, [tokens]."""
        return self.logits.argmax(-1)

    def divergence(self, student_log_p: Tensor, temperature: float = 1.0) -> Tensor:
        """`kl_divergence` from this distribution to the student's, [tokens]."""
        return kl_divergence(student_log_p, self.log_q, temperature)

    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        """The `top_k` most probable words and their log-probabilities, both [tokens, top_k], most probable first."""
        words = top_k_indices(self.log_q, top_k)
        return words, self.log_q.gather(-1, words)

    def log_q_of(self, words: Tensor) -> Tensor:
        """The log-probabilities of `words` [tokens, n]."""
        return self.log_q.gather(-1, words)

    def nll(self, gold: Tensor) -> Tensor:
        """The negative log-likelihood of the words `gold`, both [tokens], in nats."""
        return -self.log_q_of(gold.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class TopPrediction:
    """The most probable words of a distribution and, as one, all others."""

    words: Tensor  # [tokens, k], most probable first
    log_q: Tensor  # [tokens, k], float32
    log_rest: Tensor  # [tokens], the log of the others' mass, float32; -inf where there are none
    vocabulary_size: int

    @property
    def first_choice(self) -> Tensor:
        """The most probable word, [tokens]."""
        return self.words[:, 0]

    def divergence(self, student_log_p: Tensor) -> Tensor:
        """`coarse_divergence` from this distribution to the student's, [tokens]."""
        return coarse_divergence(student_log_p, self.words, self.log_q, self.log_rest)

    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        """As `WholePrediction.top`, for at most k words."""
        return self.words[:, :top_k], self.log_q[:, :top_k]

    def log_q_of(self, words: Tensor) -> Tensor:
        """The log-probabilities of `words` [tokens, n]; those that are not among the k count as improbable.

        Compared with any of the k they are right so; among themselves they have no order.
        """
        found = words.unsqueeze(2) == self.words.unsqueeze(1)  # [tokens, n, k]
        return torch.where(found, self.log_q.unsqueeze(1), LOG_OF_NOTHING).amax(2)

    def nll(self, gold: Tensor) -> Tensor:
        """As `WholePrediction.nll`, with the rest's mass shared out evenly among its words."""
        others = max(1, self.vocabulary_size - self.words.size(-1))
        listed = -self.log_q_of(gold.unsqueeze(-1)).squeeze(-1)
        is_listed = (self.words == gold.unsqueeze(-1)).any(-1)
        return torch.where(is_listed, listed, math.log(others) - self.log_rest)


Prediction = WholePrediction | TopPrediction
