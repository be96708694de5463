"""What a teacher predicts at some tokens: all of its distribution, or its most probable words and the rest's mass."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nmt_kd.losses.divergence import LOG_OF_NOTHING, coarse_divergence, kl_divergence
from nmt_kd.losses.precision import at_least_float32, log_probabilities
from nmt_kd.losses.top_k import top_k_indices


class Distribution(ABC):
    """A teacher's soft targets for some tokens, whatever the teacher is; nothing in it has gradients.

    Log-probabilities are float32, or float64 where the teacher's logits are.
    """

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """The number of words that the distribution is over, V."""

    @property
    @abstractmethod
    def first_choice(self) -> Tensor:
        """The most probable word, [tokens]."""

    @property
    @abstractmethod
    def confidence(self) -> Tensor:
        """The probability of the most probable word, [tokens]."""

    @property
    @abstractmethod
    def full_log_q(self) -> Tensor | None:
        """All log-probabilities, [tokens, V]; None where only the top words are known."""

    @abstractmethod
    def divergence(self, student_log_p: Tensor) -> Tensor:
        """`KL(teacher || student)`, [tokens], in nats, as far as the distribution is known.

        `student_log_p` are the student's log-probabilities, [tokens, V].
        """

    @abstractmethod
    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        """The `top_k` most probable words and their log-probabilities, both [tokens, top_k], most probable first."""

    @abstractmethod
    def log_q_of(self, words: Tensor) -> Tensor:
        """The log-probabilities of `words` [tokens, n]; words that are not known count as improbable."""

    @abstractmethod
    def nll(self, gold: Tensor) -> Tensor:
        """The negative log-likelihood of the words `gold`, both [tokens], in nats."""

    @abstractmethod
    def coarse(self, top_k: int) -> "TopDistribution":
        """The same distribution with all but the `top_k` most probable words as one."""


@dataclass(frozen=True)
class WholeDistribution(Distribution):
    """A distribution over all words, as logits [tokens, V]."""

    logits: Tensor

    @cached_property
    def log_q(self) -> Tensor:
        """The log-probabilities, [tokens, V]."""
        return log_probabilities(self.logits.detach())

    @property
    def full_log_q(self) -> Tensor:
        return self.log_q

    @property
    def vocabulary_size(self) -> int:
        return self.logits.size(-1)

    @property
    def first_choice(self) -> Tensor:
        return self.logits.argmax(-1)

    @property
    def confidence(self) -> Tensor:
        return self.log_q.amax(-1).exp()

    def divergence(self, student_log_p: Tensor) -> Tensor:
        return kl_divergence(student_log_p, self.log_q)

    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        words = top_k_indices(self.log_q, top_k)
        return words, self.log_q.gather(-1, words)

    def log_q_of(self, words: Tensor) -> Tensor:
        return self.log_q.gather(-1, words)

    def nll(self, gold: Tensor) -> Tensor:
        return -self.log_q_of(gold.unsqueeze(-1)).squeeze(-1)

    def coarse(self, top_k: int) -> "TopDistribution":
        """Words of equal probability come in the order of their numbers.

        The rest's mass is added up from its own words, so that it is as precise when it is small.
        """
        log_q = log_probabilities(at_least_float32(self.logits.detach()))
        words = top_k_indices(log_q, top_k).sort(-1).values
        log_of_words, order = log_q.gather(-1, words).sort(dim=-1, descending=True, stable=True)
        rest = log_q.scatter_(-1, words, -math.inf).logsumexp(-1)
        return TopDistribution(words.gather(-1, order), log_of_words, rest, self.vocabulary_size)


@dataclass(frozen=True)
class TopDistribution(Distribution):
    """The most probable words of a distribution; all others are one bucket."""

    words: Tensor  # [tokens, k], most probable first
    log_q: Tensor  # [tokens, k], float32
    log_rest: Tensor  # [tokens], the log of the others' mass, float32; -inf where there are none
    words_in_all: int  # V

    @property
    def vocabulary_size(self) -> int:
        return self.words_in_all

    @property
    def full_log_q(self) -> None:
        return None

    @property
    def first_choice(self) -> Tensor:
        return self.words[:, 0]

    @property
    def confidence(self) -> Tensor:
        return self.log_q[:, 0].exp()

    def divergence(self, student_log_p: Tensor) -> Tensor:
        return coarse_divergence(student_log_p, self.words, self.log_q, self.log_rest)

    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        return self.words[:, :top_k], self.log_q[:, :top_k]

    def log_q_of(self, words: Tensor) -> Tensor:
        """Words outside the k count as improbable: correct relative to any of the k, without order among themselves."""
        found = words.unsqueeze(2) == self.words.unsqueeze(1)  # [tokens, n, k]
        return torch.where(found, self.log_q.unsqueeze(1), LOG_OF_NOTHING).amax(2)

    def nll(self, gold: Tensor) -> Tensor:
        """Words outside the k share the rest's mass evenly."""
        others = max(1, self.vocabulary_size - self.words.size(-1))
        listed = -self.log_q_of(gold.unsqueeze(-1)).squeeze(-1)
        is_listed = (self.words == gold.unsqueeze(-1)).any(-1)
        return torch.where(is_listed, listed, math.log(others) - self.log_rest)

    def coarse(self, top_k: int) -> "TopDistribution":
        dropped = torch.cat([self.log_q[:, top_k:], self.log_rest.unsqueeze(-1)], dim=-1)
        words, log_q = self.top(top_k)
        return TopDistribution(words, log_q, dropped.logsumexp(-1), self.vocabulary_size)
