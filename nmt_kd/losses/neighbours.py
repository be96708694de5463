"""The distribution over words that nearest neighbours give."""

import math

import torch
from torch import Tensor

from nmt_kd.losses.divergence import LOG_OF_NOTHING
from nmt_kd.losses.top_k import other_words


def neighbour_distribution(
    distances: Tensor, tokens: Tensor, temperature: float | Tensor, vocabulary_size: int
) -> tuple[Tensor, Tensor]:
    """Return words and their log-probabilities `q(v) = sum_i softmax(-d_i / temperature)_i 1[v_i = v]`.

    `distances` and `tokens` are those of the neighbours, [positions, k]; `temperature` is a number or [positions, 1].
    Both results are [positions, k], or [positions, V] if that is less, most probable first, equally probable words in
    the order of their indices. A position with fewer different words is filled up at the end with others, whose
    log-probability is `LOG_OF_NOTHING`. (kNN-KD, Yang et al., 2022)
    """
    weights = (-distances.double() / temperature).softmax(-1)
    tokens, order = tokens.sort(dim=-1, stable=True)
    starts = torch.ones_like(tokens, dtype=torch.bool)
    starts[:, 1:] = tokens[:, 1:] != tokens[:, :-1]
    group = starts.cumsum(-1) - 1  # which of the different words
    mass = torch.zeros_like(weights).scatter_add(-1, group, weights.gather(-1, order))
    words = torch.zeros_like(tokens).scatter(-1, group, tokens)
    width = min(words.size(-1), vocabulary_size)
    count = group[:, -1:] + 1
    column = torch.arange(width, device=words.device)
    fill = other_words(words, width, vocabulary_size, column < count).gather(-1, (column - count).clamp(min=0))
    words, mass = words[:, :width].where(column < count, fill), mass[:, :width]
    mass, order = mass.sort(dim=-1, descending=True, stable=True)
    return words.gather(-1, order), mass.log().clamp(min=LOG_OF_NOTHING).float()


def mixed_with(base_log_p: Tensor, words: Tensor, log_q: Tensor, share: float) -> Tensor:
    """Return `log(share q + (1 - share) p)`, [positions, V], where p are the log-probabilities `base_log_p` of a model.

    `words` and `log_q` [positions, k] are from `neighbour_distribution`; all other words have q = 0.
    """
    mixed = base_log_p + math.log1p(-share)
    return mixed.scatter(-1, words, mixed.gather(-1, words).logaddexp(log_q + math.log(share)))
