"""Check that a teacher fits the data."""

import math

from torch import Tensor

from nmt_kd.engine.distribution import Distribution
from nmt_kd.errors import UserError


class ChanceCheck:
    """Raises UserError if a teacher predicts the first tokens no better than chance, so was trained on other data."""

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
        """Add the teacher's loss on the `gold` tokens, [tokens]; UserError if its mean is no better than chance."""
        if self.done:
            return
        nll = teacher.nll(gold)
        nll = nll if teacher.known is None else nll[teacher.known]
        chance = math.log(teacher.vocabulary_size)
        self.tokens += nll.numel()
        self.nll += nll.masked_fill(nll > self.RULED_OUT, chance + math.log(2)).sum().item()
        if self.done and not self.nll / self.tokens < chance:  # unlike >=, true for NaN
            raise UserError(
                f"the teacher predicts the first {self.tokens} training tokens no better than chance "
                f"({self.nll / self.tokens:.2f} nats a token; a uniform guess has {chance:.2f}); "
                "check its dictionaries, subword model and language direction"
            )
