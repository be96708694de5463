"""Operations for which the CPU waits until the GPU has finished, and answers to those that ask for values."""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from simulated_gpu import values
from simulated_gpu.places import current_place

ASKS_FOR_SIZE = {"nonzero", "masked_select", "bincount", "_unique2", "unique_consecutive", "unique_dim"}
INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_"}
MAY_WAIT = {"_to_copy", "copy_", "_local_scalar_dense", "equal", "repeat_interleave", *ASKS_FOR_SIZE, *INDEXES}


def reason_to_wait(name: str, args: tuple, kwargs: dict, inputs: list[Tensor], outputs: list[Tensor]) -> str:
    """Return why the CPU waits for the GPU in an operation, or "" if it does not."""
    if name not in MAY_WAIT:
        return ""
    if name in ("_to_copy", "copy_"):
        blocks = not kwargs.get("non_blocking", args[2] if name == "copy_" and len(args) > 2 else False)
        for output in outputs:
            for tensor in inputs:
                if blocks and tensor.device.type != output.device.type:
                    return f"copy from {tensor.device.type} to {output.device.type}"
        return ""
    if not any(tensor.is_cuda for tensor in inputs):
        return ""
    if name == "_local_scalar_dense":
        return "item"
    if name == "equal" or name in ASKS_FOR_SIZE:
        return name
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        return name
    if name in INDEXES and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]):
        return "index by a mask"
    return ""


def answer(name: str, args: tuple, kwargs: dict, inputs: list[Tensor]) -> Any:
    """Return the result of an operation that needs values, made up where they are not known; None for the others.

    A mask is true everywhere. A condition is true, except that of fairseq's search for an overflow.
    """
    if name == "_local_scalar_dense":
        return _scalar(args[0])
    if name == "equal":
        return True
    if name == "nonzero":
        return values.positions_in(args[0])
    if name == "masked_select":
        return args[0].new_empty(len(values.positions_in(args[1])))
    if name == "bincount":
        return inputs[0].new_zeros(max(1, args[2] if len(args) > 2 else 1), dtype=torch.int64)
    if name == "_to_copy" and torch.device(kwargs.get("device") or "cuda").type == "cpu" and values.is_known(args[0]):
        return values.copy_of(args[0])
    return None


def without_masks(name: str, args: tuple) -> tuple:
    """Return the arguments of an indexing operation with positions in place of masks."""
    if name not in INDEXES:
        return args
    indices: list[Tensor | None] = []
    for index in args[1]:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            indices += values.positions_in(index).unbind(1)
        else:
            indices.append(index)
    return (args[0], indices, *args[2:])


def _scalar(tensor: Tensor) -> bool | float | int | None:
    if values.is_known(tensor):
        return values.scalar(tensor)
    if isinstance(tensor, FakeTensor) and tensor.constant is not None:
        return tensor.constant.item()
    if not isinstance(tensor, FakeTensor):
        return None  # it has values
    if tensor.dtype == torch.bool:
        return "fp16_optimizer" not in current_place().file and "loss_scaler" not in current_place().file
    return 0.5 if tensor.dtype.is_floating_point else 1
