"""Check that a teacher fits the data."""

import math

import torch
from torch import Tensor

from nmt_kd.engine.distribution import Distribution
from nmt_kd.errors import UserError


class ChanceCheck:
    """Raises UserError if a teacher predicts the first tokens no better than chance, or if its predictions are NaN.

    A teacher no better than chance was trained on other data.
    """

    TOKENS = 1000
    # A teacher may rule words out, as a cache of a few words without a rest does. A gold token that it rules out counts
    # as if it had half the probability of a uniform guess.
    RULED_OUT = 99.0  # nats; about -LOG_OF_NOTHING, with which such words are stored

    def __init__(self) -> None:
        self.tokens = 0
        self.nll = 0.0

    @property
    def done(self) -> bool:
        """Whether enough tokens have been observed."""
        return self.tokens >= self.TOKENS

    def observe(self, teacher: Distribution, gold: Tensor) -> None:
        """Add the teacher's loss on the `gold` tokens, [tokens]; UserError if it is NaN or no better than chance."""
        if self.done:
            return
        nll = teacher.nll(gold)
        known = torch.ones_like(gold, dtype=torch.bool) if teacher.known is None else teacher.known
        chance = math.log(teacher.vocabulary_size)
        is_nan = nll.isnan() & known
        total = nll.masked_fill(nll > self.RULED_OUT, chance + math.log(2)).masked_fill(~known | is_nan, 0).sum()
        # in one tensor, because a GPU stops for each number that is read from it
        tokens, number_of_nan, total_nll = torch.stack([known.sum().to(total), is_nan.sum().to(total), total]).tolist()
        if number_of_nan >= 1:
            raise UserError(
                f"the teacher's predictions are NaN at {number_of_nan:.0f} of {tokens:.0f} target tokens; if training "
                "is in half precision, its activations may overflow: leave out --fp16, or give another teacher"
            )
        self.tokens += int(tokens)
        self.nll += total_nll
        if self.done and self.nll / self.tokens >= chance:
            raise UserError(
                f"the teacher predicts the first {self.tokens} training tokens no better than chance "
                f"({self.nll / self.tokens:.2f} nats a token; a uniform guess has {chance:.2f}); "
                "check its dictionaries, subword model and language direction"
            )
