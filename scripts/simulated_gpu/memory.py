"""The memory of the tensors on the GPU that are alive, without the allocator's rounding and fragmentation."""

import weakref

from torch import Tensor


class LiveMemory:
    """Follows the storages of tensors from the operation that makes them until they are freed."""

    def __init__(self) -> None:
        self.live = 0  # bytes
        self.peak = 0  # bytes, since the last `reset_peak`
        self.peak_place = ""
        self._sizes: dict[int, int] = {}  # by the address of the storage

    def observe(self, tensor: Tensor) -> bool:
        """Count a tensor's storage unless it is counted already; return whether that made a new peak."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return False
        self._sizes[key] = size = storage.nbytes()
        self.live += size
        weakref.finalize(storage, self._free, key)
        if self.live <= self.peak:
            return False
        self.peak = self.live
        return True

    def reset_peak(self) -> None:
        """Forget the peak so far."""
        self.peak, self.peak_place = self.live, ""

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)
