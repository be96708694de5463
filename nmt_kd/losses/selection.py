"""Select the tokens to distil (selective KD, Wang et al., 2021; CBBGCA, Zhou et al., 2022)."""

import math

import torch
from torch import Tensor


def share_of(rate: float, count: int) -> int:
    """Return `ceil(rate * count)`, but at least 1 if `count` is not 0.

    Rounding errors do not count: 0.07 * 100, which is 7.000000000000001 in floats, gives 7.
    """
    return max(min(count, 1), math.ceil(rate * count - 1e-9 * count))


def largest(scores: Tensor, rate: float) -> Tensor:
    """Return a mask, [n], of the ceil(rate * n) largest of n scores; of equal scores, the first are selected."""
    order = scores.argsort(descending=True, stable=True)
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen[order[: share_of(rate, scores.numel())]] = True
    return chosen


def unlikely(scores: Tensor, probability: float) -> Tensor:
    """Return a mask, [n], of the tokens with at most this `probability`, given their negative log-likelihoods [n]."""
    return scores >= (-math.log(probability) if probability else math.inf)


def uniform_hash(first: Tensor, second: Tensor) -> Tensor:
    """Hash pairs of integers, both [n], to numbers in [0, 1), [n] in float64, the same on every machine."""
    low_bits = 0xFFFFFFFF
    first, second = first.long(), second.long()
    mixed = (first * 0x9E3779B1 + second * 0x85EBCA77 + 0x165667B1) & low_bits
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & low_bits
    return (mixed ^ (mixed >> 16)).double() / (low_bits + 1)


class ScoreQueue:
    """A first-in, first-out queue of the newest `size` scores; `values` lists them from oldest to newest."""

    def __init__(self, size: int):
        self.size = size
        self.values = torch.empty(0)

    def push(self, scores: Tensor) -> None:
        """Append `scores` [n] and drop the oldest ones beyond `size`.

        NaN, from a half-precision batch that fairseq will skip, is stored as 0; it would otherwise remain the largest.
        """
        scores = scores.detach().to(torch.float32)
        scores = scores.where(~scores.isnan(), 0.0)
        self.values = torch.cat([self.values.to(scores.device), scores])[-self.size :]

    def threshold(self, rate: float) -> Tensor:
        """Return the ceil(rate * length)-th largest score in the queue, a scalar; minus infinity if it is empty."""
        if self.values.numel() == 0:
            return self.values.new_full((), -math.inf)
        return self.values.topk(share_of(rate, self.values.numel())).values[-1]
