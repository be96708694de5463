"""A check that a teacher belongs to the data."""

import math

from torch import Tensor

from nmt_kd.engine.distribution import Distribution
from nmt_kd.errors import UserError


class ChanceCheck:
    """Refuses a teacher that predicts the first tokens no better than chance: its data is not this data."""

    TOKENS = 1000

    def __init__(self) -> None:
        self.tokens = 0
        self.nll = 0.0

    @property
    def done(self) -> bool:
        """Whether enough tokens were observed."""
        return self.tokens >= self.TOKENS

    def observe(self, teacher: Distribution, gold: Tensor) -> None:
        """Count `gold` [tokens] under the teacher's predictions; raises UserError once enough tokens were observed."""
        if self.done:
            return
        self.tokens += gold.numel()
        self.nll += teacher.nll(gold).sum().item()
        chance = math.log(teacher.vocabulary_size)
        if self.done and not self.nll / self.tokens < chance:
            raise UserError(
                f"the teacher predicts the first {self.tokens} training tokens no better than chance "
                f"({self.nll / self.tokens:.2f} nats a token; a uniform guess has {chance:.2f}); "
                "check its dictionaries, subword model and language direction"
            )
