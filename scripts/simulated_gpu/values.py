"""The values of the integers and masks on the simulated GPU that follow from those of a batch."""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

_known: Any = WeakIdKeyDictionary()
NOT_ON_THE_CPU = ("device", "pin_memory", "non_blocking")


def is_known(tensor: Tensor) -> bool:
    """Whether the values of a tensor are known."""
    return tensor in _known


def copy_of(tensor: Tensor) -> Tensor:
    """Return the known values of a tensor."""
    with _disable_current_modes():
        return _known[tensor].clone()


def scalar(tensor: Tensor) -> bool | int:
    """Return the known value of a tensor of one element."""
    with _disable_current_modes():
        return _known[tensor].item()


def positions_in(mask: Tensor) -> Tensor:
    """Return where a mask is true, [count, dimensions], on the GPU; everywhere if its values are not known."""
    count = mask.numel()
    if is_known(mask):
        with _disable_current_modes():
            count = int(_known[mask].count_nonzero())
    return torch.zeros((count, mask.dim()), dtype=torch.int64, device=mask.device)


def follow(func, name: str, args: tuple, kwargs: dict, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """Repeat an operation on the known values of its inputs if its results are integers or masks on the GPU.

    The values of a tensor become known when it is copied to the GPU.
    """
    if name == "_to_copy" and _has_values(inputs[0]) and outputs[0].is_cuda:
        _known[outputs[0]] = inputs[0]
        return
    if not inputs or not outputs or inputs[0] not in _known:
        return
    if not all(tensor in _known for tensor in inputs):
        if name.endswith("_"):
            del _known[inputs[0]]
        return
    if any(output.dtype.is_floating_point or not output.is_cuda for output in outputs):
        return
    kwargs = {name: value for name, value in kwargs.items() if name not in NOT_ON_THE_CPU}
    with _disable_current_modes():
        args, kwargs = tree_map_only(Tensor, _known.__getitem__, (args, kwargs))
        result = func(*args, **kwargs)
    results = [result] if isinstance(result, Tensor) else list(result)
    for output, values in zip(outputs, results, strict=True):
        _known[output] = values


def _has_values(tensor: Tensor) -> bool:
    return not isinstance(tensor, FakeTensor) and not tensor.is_floating_point() and not tensor.is_cuda
