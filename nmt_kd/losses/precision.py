"""The precision in which losses are computed."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32 where they are in half precision, unchanged otherwise."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """`log softmax(logits / temperature)`, [tokens, V], in float32 or the logits' float64.

    Log-probabilities are logits as well: given some, this returns them at another temperature.
    """
    scaled = logits if temperature == 1 else at_least_float32(logits) / temperature
    in_half = scaled.dtype in (torch.float16, torch.bfloat16)
    return scaled.log_softmax(-1, dtype=torch.float32 if in_half else None)
