"""What an operation costs on a GPU: bytes moved, FLOPs, and the time that these need at least."""

from dataclasses import dataclass

from torch import Tensor
from torch.utils.flop_counter import flop_registry

LAUNCH = 6e-6  # seconds that Python and torch need to start a kernel
COMPUTE_SHARE, MEMORY_SHARE = 0.6, 0.8  # of the peak, that good kernels reach

NO_KERNEL = {"_local_scalar_dense", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
WRITES_ALL = {"copy_", "fill_", "zero_"}  # without reading the old content
PICKS = {"gather", "index_select", "index", "embedding"}  # read as much as they write
SCATTERS_IN_PLACE = {
    "scatter_",
    "scatter_add_",
    "index_add_",
    "index_copy_",
    "index_put_",
}  # write as much as read


@dataclass(frozen=True)
class GPU:
    """The peak figures of a GPU, from its data sheet."""

    name: str
    half: float  # FLOP a second of matrix products in half precision, without sparsity
    single: float  # in float32, without TF32, as torch computes by default
    bandwidth: float  # bytes a second

    def seconds(self, moved: float, flops: float, in_half: bool) -> float:
        """Return the time of a kernel that is limited by its products or by its memory traffic."""
        compute = flops / ((self.half if in_half else self.single) * COMPUTE_SHARE)
        return max(compute, moved / (self.bandwidth * MEMORY_SHARE))


GPUS = {
    gpu.name: gpu
    for gpu in (
        GPU("A100", 312e12, 19.5e12, 1.555e12),  # SXM, 40 GB
        GPU("H100", 989e12, 66.9e12, 3.35e12),  # SXM
    )
}


def runs_kernel(func, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether an operation on a GPU does more than to make a view or to allocate memory."""
    if not outputs or func.is_view or name in NO_KERNEL:
        return False
    # `reshape` makes views by operations that do not say so
    storages = {tensor.untyped_storage()._cdata for tensor in inputs}
    return func._schema.is_mutable or not all(tensor.untyped_storage()._cdata in storages for tensor in outputs)


def bytes_moved(name: str, args: tuple, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    """Return the bytes that a kernel reads and writes if each tensor passes the memory once."""
    if name in PICKS:
        return 2 * sum(map(_size, outputs))
    if name in SCATTERS_IN_PLACE:
        return 2 * sum(_size(tensor) for tensor in inputs if tensor is not args[0])
    read = inputs[1:] if name in WRITES_ALL else inputs
    return bytes_of(read) + bytes_of(outputs)


def bytes_of(tensors: list[Tensor]) -> int:
    """Return the bytes of all tensors."""
    return sum(map(_size, tensors))


def flops(func, args: tuple, kwargs: dict, result) -> int:
    """Return the FLOPs of a matrix product or an attention; 0 for everything else."""
    count = flop_registry.get(func._overloadpacket)
    return 0 if count is None else count(*args, **kwargs, out_val=result)


def _size(tensor: Tensor) -> int:
    """Return a tensor's bytes, in which an expanded one counts only once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
