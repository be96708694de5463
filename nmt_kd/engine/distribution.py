"""A teacher's predictions for some tokens: full distributions, or the most probable words and the mass of the rest."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nmt_kd.errors import UserError
from nmt_kd.losses.divergence import (
    LOG_OF_NOTHING,
    coarse_divergence,
    coarse_log_probabilities,
    kl_divergence,
    tempered_log_probabilities,
)
from nmt_kd.losses.divergence_kinds import Divergence, at_temperature
from nmt_kd.losses.logits import Logits
from nmt_kd.losses.precision import at_least_float32, log_probabilities
from nmt_kd.losses.top_k import other_words, top_k_indices


class Distribution(ABC):
    """A teacher's soft targets for some tokens, whatever kind of teacher it is; no tensor has gradients.

    Log-probabilities are float32, or float64 for float64 logits.
    """

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """The number of words in the vocabulary, V."""

    @property
    @abstractmethod
    def first_choice(self) -> Tensor:
        """The most probable word, [tokens]."""

    @property
    @abstractmethod
    def confidence(self) -> Tensor:
        """The probability of the most probable word, [tokens]."""

    @property
    def known(self) -> Tensor | None:
        """Which tokens have a prediction, bool [tokens], or None if all have; only these learn from the teacher."""
        return None

    @abstractmethod
    def divergence(self, student: Logits, temperature: float = 1.0, kind: Divergence = kl_divergence) -> Tensor:
        """Return `KL(teacher || student)` or another `kind`, [tokens]; words of unknown probability form one bucket.

        Both distributions are taken at `temperature` (an approximation where there is a bucket), and the divergence is
        multiplied by its square.
        """

    @abstractmethod
    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        """Return the `top_k` most probable words and their log-probabilities, both [tokens, top_k], best first."""

    @abstractmethod
    def log_q_of(self, words: Tensor) -> Tensor:
        """Return the log-probabilities of `words`, both [tokens, n]; `LOG_OF_NOTHING` where they are unknown."""

    @abstractmethod
    def nll(self, gold: Tensor) -> Tensor:
        """Return the negative log-likelihood of the `gold` tokens, both [tokens], in nats."""

    @abstractmethod
    def coarse(self, top_k: int) -> "TopDistribution":
        """Return the distribution with all but the `top_k` most probable words merged into one bucket."""


@dataclass(frozen=True)
class WholeDistribution(Distribution):
    """A distribution over all words, as logits [tokens, V]."""

    logits: Tensor

    @cached_property
    def teacher(self) -> Logits:
        """The logits with what losses need of them."""
        return Logits.of(self.logits)

    @property
    def log_q(self) -> Tensor:
        """The log-probabilities, [tokens, V]."""
        return self.teacher.log_p

    @property
    def vocabulary_size(self) -> int:
        return self.logits.size(-1)

    @property
    def first_choice(self) -> Tensor:
        return self.logits.argmax(-1)

    @property
    def confidence(self) -> Tensor:
        return (self.logits.amax(-1) - self.teacher.log_normaliser).exp()

    def divergence(self, student: Logits, temperature: float = 1.0, kind: Divergence = kl_divergence) -> Tensor:
        if kind is kl_divergence and temperature == 1:
            return student.kl_divergence_from(self.teacher)
        return at_temperature(kind, student.log_p, self.log_q, temperature)

    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        words = self.teacher.top(top_k)
        return words, self.log_q_of(words)

    def log_q_of(self, words: Tensor) -> Tensor:
        return self.teacher.log_p_of(words)

    def nll(self, gold: Tensor) -> Tensor:
        return -self.log_q_of(gold.unsqueeze(-1)).squeeze(-1)

    def coarse(self, top_k: int) -> "TopDistribution":
        """Return the top words, equally probable ones in the order of their indices, and the mass of the rest.

        That mass is summed over the other words, because 1 - sum would be imprecise where it is small.
        """
        log_q = log_probabilities(at_least_float32(self.logits.detach()))
        words = top_k_indices(log_q, top_k).sort(-1).values
        log_of_words, order = log_q.gather(-1, words).sort(dim=-1, descending=True, stable=True)
        rest = log_q.scatter_(-1, words, -math.inf).logsumexp(-1)
        return TopDistribution(words.gather(-1, order), log_of_words, rest, self.vocabulary_size)


@dataclass(frozen=True)
class TopDistribution(Distribution):
    """The most probable words of a distribution; all others form one bucket."""

    words: Tensor  # [tokens, k], most probable first
    log_q: Tensor  # [tokens, k], float32
    log_rest: Tensor  # [tokens], the log of the mass of all others, float32; -inf if there are none
    all_words: int  # V; `vocabulary_size`, which a field cannot override
    known_tokens: Tensor | None = None  # bool [tokens]; where it is False, the values above are finite but arbitrary

    @property
    def vocabulary_size(self) -> int:
        return self.all_words

    @property
    def first_choice(self) -> Tensor:
        return self.words[:, 0]

    @property
    def confidence(self) -> Tensor:
        return self.log_q[:, 0].exp()

    @property
    def known(self) -> Tensor | None:
        return self.known_tokens

    def divergence(self, student: Logits, temperature: float = 1.0, kind: Divergence = kl_divergence) -> Tensor:
        if temperature != 1:
            both = tempered_log_probabilities(student.log_p, self.words, self.log_q, self.log_rest, temperature)
            return kind(*both) * temperature**2
        log_p = student.log_p_of(self.words)
        if kind is kl_divergence:  # needs no bucket where the teacher gives it nothing
            return coarse_divergence(log_p, self.log_q, self.log_rest)
        has_rest = self.words.size(-1) < self.vocabulary_size
        return kind(*coarse_log_probabilities(log_p, self.log_q, self.log_rest if has_rest else None))

    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        return self.words[:, :top_k], self.log_q[:, :top_k]

    def log_q_of(self, words: Tensor) -> Tensor:
        """Return `LOG_OF_NOTHING` for words outside the top k, so that they tie with each other, below the top k."""
        found = words.unsqueeze(2) == self.words.unsqueeze(1)  # [tokens, n, k]
        return torch.where(found, self.log_q.unsqueeze(1), LOG_OF_NOTHING).amax(2)

    def nll(self, gold: Tensor) -> Tensor:
        """Return the negative log-likelihood, [tokens]; words outside the top k share the mass of the rest evenly."""
        others = max(1, self.vocabulary_size - self.words.size(-1))
        listed = -self.log_q_of(gold.unsqueeze(-1)).squeeze(-1)
        is_listed = (self.words == gold.unsqueeze(-1)).any(-1)
        return torch.where(is_listed, listed, math.log(others) - self.log_rest)

    def coarse(self, top_k: int) -> "TopDistribution":
        """Return the distribution with fewer words, or with others of probability 0 if there is no bucket.

        Raises UserError if it has fewer words and a bucket.
        """
        if (missing := top_k - self.words.size(-1)) > 0:
            return self._with_others(missing)
        dropped = torch.cat([self.log_q[:, top_k:], self.log_rest.unsqueeze(-1)], dim=-1)
        words, log_q = self.top(top_k)
        return TopDistribution(words, log_q, dropped.logsumexp(-1), self.vocabulary_size, self.known_tokens)

    def _with_others(self, count: int) -> "TopDistribution":
        known = slice(None) if self.known_tokens is None else self.known_tokens
        if not self.log_rest[known].eq(-math.inf).all():
            width = self.words.size(-1)
            raise UserError(f"--top-k is {width + count}, but the teacher gives only {width} words; lower --top-k")
        words = torch.cat([self.words, other_words(self.words, count, self.vocabulary_size)], dim=-1)
        log_q = torch.cat([self.log_q, self.log_q.new_full((len(words), count), LOG_OF_NOTHING)], dim=-1)
        return TopDistribution(words, log_q, self.log_rest, self.vocabulary_size, self.known_tokens)

    def rows(self, rows: slice) -> "TopDistribution":
        """Return the distributions at some of the tokens."""
        known = None if self.known_tokens is None else self.known_tokens[rows]
        return TopDistribution(self.words[rows], self.log_q[rows], self.log_rest[rows], self.vocabulary_size, known)
