"""Make torch behave as it does with a GPU. Apply this before fairseq is imported.

Everything here changes torch for the whole process, which must do nothing else.
"""

import sys
import types

import numpy
import safetensors
import torch
import torch.onnx.operators
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

from simulated_gpu.recorder import CostRecorder

aten = torch.ops.aten
_numpy = Tensor.numpy
_safe_open = safetensors.safe_open
_attention_on_a_cpu = nn.functional.scaled_dot_product_attention


def apply() -> None:
    """Patch torch."""
    torch.autograd.set_multithreading_enabled(False)  # a recorder sees only the operations of its own thread
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.amp.autocast_mode.is_autocast_available = lambda device: True
    torch.cuda.is_bf16_supported = lambda *args, **kwargs: True
    nn.Module._apply = _convert_module
    nn.functional.scaled_dot_product_attention = _attention_on_a_gpu
    torch.onnx.operators.shape_as_tensor = lambda tensor: list(tensor.shape)  # fairseq asks it for a shape
    torch.compile = _compiled
    Tensor.pin_memory = lambda tensor, *args: tensor
    Tensor.tolist = FakeTensor.tolist = lambda tensor: _as_numpy(tensor).tolist()
    Tensor.numpy = _as_numpy
    safetensors.safe_open = FileWithValues
    _simulate_a_machine()


class FileWithValues:
    """A safetensors file whose tensors have values, even where new tensors have none."""

    def __init__(self, *args, **kwargs):
        self._file = _safe_open(*args, **kwargs)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def get_tensor(self, name: str) -> Tensor:
        """Return a tensor of the file."""
        with _disable_current_modes():
            return self._file.get_tensor(name)


def _as_numpy(tensor: Tensor, **kwargs) -> numpy.ndarray:
    """Return the values of a tensor where they are known (see `values.follow`), otherwise zeros."""
    on_cpu = tensor.cpu()
    if isinstance(on_cpu, FakeTensor):
        return numpy.zeros(tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
    with _disable_current_modes():
        return _numpy(on_cpu, **kwargs)


def _convert_module(module: nn.Module, function, recurse: bool = True) -> nn.Module:
    """Do what `Module.to` does by replacing parameters, since those without values cannot be overwritten."""
    converted: dict[int, tuple[Tensor, Tensor]] = {}  # by id; a pair keeps the original alive, so that ids are unique
    for part in module.modules():
        for holder in (part._parameters, part._buffers):
            for name, tensor in holder.items():
                if tensor is None:
                    continue
                if id(tensor) not in converted:
                    with torch.no_grad():
                        new = function(tensor)
                    if isinstance(tensor, nn.Parameter):
                        new = nn.Parameter(new, tensor.requires_grad)
                    converted[id(tensor)] = new, tensor
                holder[name] = converted[id(tensor)][0]
    return module


def _attention_on_a_gpu(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **kwargs) -> Tensor:
    """Call the attention kernel that torch uses on a GPU when there is a padding mask; on a CPU, it chooses another."""
    if query.device.type != "cuda":
        return _attention_on_a_cpu(query, key, value, attn_mask, dropout_p, is_causal, **kwargs)
    bias = None if attn_mask is None else attn_mask.expand(*query.shape[:3], key.size(2))
    needs_gradient = torch.is_grad_enabled() and query.requires_grad
    return aten._scaled_dot_product_efficient_attention(query, key, value, bias, needs_gradient, dropout_p, is_causal)[
        0
    ]


def _compiled(function, **options):
    """Stand for `torch.compile`: run the function, which counts as one kernel."""

    def run(*args):
        recorders = [mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, CostRecorder)]
        return recorders[-1].run_as_one_kernel(function, args) if recorders else function(*args)

    return run


def _simulate_a_machine() -> None:
    """Answer what fairseq's trainer asks `torch.cuda` for."""
    cuda = torch.cuda

    def is_available() -> bool:
        # FakeTensorMode would initialise a real device
        return not sys._getframe(1).f_globals["__name__"].startswith("torch._subclasses")

    cuda.is_available = is_available
    cuda.current_device = lambda: 0
    cuda.device_count = lambda: 1
    cuda.get_device_capability = lambda *args: (9, 0)
    cuda.get_device_properties = lambda *args: types.SimpleNamespace(
        name="simulated", major=9, minor=0, total_memory=80 * 2**30
    )
    cuda.max_memory_allocated = lambda *args: 0
    for name in ("set_device", "empty_cache", "reset_peak_memory_stats", "manual_seed", "manual_seed_all"):
        setattr(cuda, name, lambda *args: None)
    for name in ("set_rng_state", "synchronize"):
        setattr(cuda, name, lambda *args: None)
    cuda.get_rng_state = lambda *args: torch.zeros(8, dtype=torch.uint8)
