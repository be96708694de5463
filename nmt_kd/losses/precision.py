"""The precision in which losses are computed."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Return `values` in float32 if they are in half precision, and unchanged otherwise."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return `log softmax(logits / temperature)`, [tokens, V], in float32, or float64 for float64 logits.

    Log-probabilities are also logits, so this changes the temperature of a distribution given as log-probabilities.
    """
    scaled = logits if temperature == 1 else at_least_float32(logits) / temperature
    in_half = scaled.dtype in (torch.float16, torch.bfloat16)
    return scaled.log_softmax(-1, dtype=torch.float32 if in_half else None)


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which sums over `tensor` are kept: float64 for float64 tensors, otherwise float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
