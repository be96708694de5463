"""Which tokens are distilled (selective KD, Wang et al., 2021)."""

import math

import torch
from torch import Tensor


def share_of(rate: float, count: int) -> int:
    """`ceil(rate * count)`, not one more where rate is a decimal fraction that floats miss (0.7 * 10)."""
    return max(min(count, 1), math.ceil(rate * count - 1e-9 * count))


def largest(scores: Tensor, rate: float) -> Tensor:
    """Whether each score is among the ceil(rate * n) largest of the n scores, [n]; of equals, the first ones."""
    order = scores.argsort(descending=True, stable=True)
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen[order[: share_of(rate, scores.numel())]] = True
    return chosen


def uniform_hash(first: Tensor, second: Tensor) -> Tensor:
    """A number from 0 to below 1 for each pair of integers, [n], the same on every machine and as good as random."""
    low_bits = 0xFFFFFFFF
    first, second = first.long(), second.long()
    mixed = (first * 0x9E3779B1 + second * 0x85EBCA77 + 0x165667B1) & low_bits
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & low_bits
    return (mixed ^ (mixed >> 16)).double() / (low_bits + 1)


class ScoreQueue:
    """The newest `size` scores, first in, first out; `values` has the oldest first."""

    def __init__(self, size: int):
        self.size = size
        self.values = torch.empty(0)

    def push(self, scores: Tensor) -> None:
        """Append `scores` [n]; of more than `size`, the newest stay.

        What is no number (of a half-precision batch that fairseq will skip) counts as 0, or it would stay the largest.
        """
        scores = scores.detach().to(torch.float32)
        scores = scores.where(~scores.isnan(), 0.0)
        self.values = torch.cat([self.values.to(scores.device), scores])[-self.size :]

    def threshold(self, rate: float) -> Tensor:
        """The ceil(rate * length)-th largest score of the queue, a scalar; of an empty queue, minus infinity."""
        if self.values.numel() == 0:
            return self.values.new_tensor(-math.inf)
        return self.values.topk(share_of(rate, self.values.numel())).values[-1]
