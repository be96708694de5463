"""Operations whose dtypes are wrong on a GPU, slow, or not precise enough."""

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

HALF = (torch.float16, torch.bfloat16)
PRODUCTS = {"mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_"}
NEED_FLOAT32 = {"_log_softmax", "_softmax", "logsumexp", "exp", "log", "logaddexp"}


def check(name: str, inputs: list[Tensor]) -> None:
    """Raise RuntimeError if an operation mixes dtypes that a product on a GPU cannot mix.

    Torch checks this only where it computes values.
    """
    if name in PRODUCTS and len({tensor.dtype for tensor in inputs}) > 1:
        raise RuntimeError(
            f"expected mat1 and mat2 to have the same dtype in {name}, but got {[tensor.dtype for tensor in inputs]}"
        )


def is_slow_product(func, output: Tensor) -> bool:
    """Whether an operation is a matrix product or an attention that is not in half precision."""
    return func._overloadpacket in flop_registry and output.dtype not in HALF


def is_inexact(name: str, output: Tensor) -> bool:
    """Whether an operation in half precision needs float32, as all softmaxes and logarithms of losses do."""
    return name in NEED_FLOAT32 and output.dtype in HALF
