"""Predictions for a batch, as they travel from a cache to the device of the student."""

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from nmt_kd.caching.files import Positions


@dataclass(frozen=True)
class PackedPredictions:
    """Predictions for the target positions of a batch, in types that fairseq's --fp16 leaves as they are."""

    words: Tensor  # int32 [batch, length, k], most probable first
    log_q: Tensor  # float16 [batch, length, k], as on disk
    bits_of_log_rest: Tensor  # int32 [batch, length], the bits of float32

    @classmethod
    def of(cls, positions: Positions, kept: numpy.ndarray) -> "PackedPredictions":
        """Pack consecutive sentences' predictions into the positions where `kept`, bool [batch, length], is true."""

        def padded(values: numpy.ndarray, dtype: type) -> Tensor:
            result: numpy.ndarray = numpy.zeros((*kept.shape, *values.shape[1:]), dtype)
            result[kept] = values
            return torch.from_numpy(result)

        log_rest = padded(positions.log_rest, numpy.float32).view(torch.int32)
        return cls(padded(positions.words, numpy.int32), padded(positions.log_q, numpy.float16), log_rest)

    def on(self, device: torch.device) -> "PackedPredictions":
        """Return the predictions on `device`; the copy to a GPU does not wait for what the GPU computes."""

        def moved(values: Tensor) -> Tensor:
            if device.type == "cuda" and not values.is_cuda:
                values = values.pin_memory()
            return values.to(device, non_blocking=True)

        return PackedPredictions(*map(moved, vars(self).values()))

    def unpacked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the most probable words, their log-probabilities, and the log of the mass of all other words.

        The shapes are int64 [batch, length, k], float32 [batch, length, k] and float32 [batch, length]. The last is
        -inf if there are no other words, and NaN where there is no prediction.
        """
        return self.words.long(), self.log_q.float(), self.bits_of_log_rest.view(torch.float32)
