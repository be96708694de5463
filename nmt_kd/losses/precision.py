"""The precision in which losses are computed."""

from torch import Tensor, bfloat16, float16


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32 where they are in half precision, unchanged otherwise."""
    return values.float() if values.dtype in (float16, bfloat16) else values
