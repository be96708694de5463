"""Calibration: whether a model is right as often as it is confident.

All sums are integers, so they are exact, whatever the order of the tokens, the batch size and the device.
"""

import torch
from torch import Tensor

BINS = 10  # of equal width, as in Guo et al. (2017): bin i holds the tokens with i / 10 < confidence <= (i + 1) / 10
UNIT = 2**-32  # the step in which confidences are summed; 2^31 tokens fit in 64 bits


class CalibrationSums:
    """Sums over the tokens in each bin of the confidence of several models, [models, bins]."""

    def __init__(self, models: int, device: torch.device):
        self.models = models
        self.tokens, self.correct, self.confidence = (
            torch.zeros(models * BINS, dtype=torch.long, device=device) for _ in range(3)
        )

    def add(self, confidence: Tensor, correct: Tensor) -> None:
        """Add some tokens.

        `confidence` [tokens, models] is each model's highest probability, and `correct` [tokens, models] tells whether
        its first choice is the reference.
        """
        # in the precision of the confidence, so that a float32 probability of 0.4 is not above the bound 0.4
        bounds = torch.arange(1, BINS, device=confidence.device).to(confidence.dtype) / BINS
        of_model = BINS * torch.arange(self.models, device=confidence.device)
        places = (torch.bucketize(confidence, bounds) + of_model).flatten()
        self.tokens.index_add_(0, places, torch.ones_like(places))
        self.correct.index_add_(0, places, correct.long().flatten())
        self.confidence.index_add_(0, places, (confidence.double() / UNIT).round().long().flatten())

    def errors(self) -> list[float | None]:
        """Return each model's expected calibration error in %; None without tokens.

        It is the mean over all tokens of |accuracy - mean confidence| of their bin.
        """
        gaps = (self.correct.double() - self.confidence.double() * UNIT).abs().view(self.models, BINS).sum(1)
        tokens = self.tokens.view(self.models, BINS).sum(1)
        return [100 * gap / count if count else None for gap, count in zip(gaps.tolist(), tokens.tolist(), strict=True)]
