"""Run operations without values, and record what they would do on a GPU."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from simulated_gpu import costs, dtypes, transfers, values
from simulated_gpu.memory import LiveMemory
from simulated_gpu.places import Parts, Place, current_place


@dataclass(frozen=True)
class Wait:
    """An operation for which the CPU waits for the GPU, and where it is called."""

    reason: str
    place: Place


@dataclass
class Record:
    """What some operations do, and what they cost."""

    waits: Counter[Wait] = field(default_factory=Counter)
    float32_products: set[Place] = field(default_factory=set)  # where matrix products are computed in float32
    half_exponentials: set[tuple[str, Place]] = field(default_factory=set)  # that need float32, in half precision
    bytes: Counter[str] = field(default_factory=Counter)  # by the part of the step, like the next ones
    flops: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)  # by the name of the GPU, without launching
    bytes_by_place: Counter[tuple[str, str]] = field(default_factory=Counter)  # by operation and file:line


class Recorder(TorchDispatchMode):
    """Records all operations inside its context; to be entered inside a `FakeTensorMode`."""

    def __init__(self) -> None:
        super().__init__()
        self.record = Record()

    def restart(self) -> Record:
        """Begin a new record, which it returns."""
        self.record = Record()
        return self.record

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        inputs = [*_tensors(args), *_tensors(kwargs.values())]
        dtypes.check(name, inputs)
        result = transfers.answer(name, args, kwargs, inputs)
        if result is None:
            result = func(*transfers.without_masks(name, args), **kwargs)
        outputs = list(_tensors([result]))
        if reason := transfers.reason_to_wait(name, args, kwargs, inputs, outputs):
            self.record.waits[Wait(reason, current_place())] += 1
        values.follow(func, name, args, kwargs, inputs, outputs)
        on_gpu = [item for item in outputs if item.is_cuda]
        if on_gpu:
            if dtypes.is_slow_product(func, on_gpu[0]):
                self.record.float32_products.add(current_place())
            if dtypes.is_inexact(name, on_gpu[0]) and (place := current_place()).is_ours:
                self.record.half_exponentials.add((name, place))
            self.on_results(func, name, args, kwargs, inputs, on_gpu, result)
        return result

    def on_results(self, func, name: str, args, kwargs, inputs: list[Tensor], outputs: list[Tensor], result) -> None:
        """Record more about an operation with results on the GPU, which are `outputs`."""


class CostRecorder(Recorder):
    """Records the costs of all operations, too, which takes longer."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = Parts()
        self.memory = LiveMemory()
        self._in_one_kernel = False

    def restart(self) -> Record:
        """Begin a new record, which it returns; what is alive stays."""
        self.memory.reset_peak()
        return super().restart()

    def on_results(self, func, name: str, args, kwargs, inputs: list[Tensor], outputs: list[Tensor], result) -> None:
        """Record the costs of an operation."""
        if self._in_one_kernel:
            return
        self._observe(name, outputs)
        if costs.runs_kernel(func, name, inputs, outputs):
            inputs = [*dict.fromkeys(item for item in inputs if item.is_cuda)]  # an `out` may also be an argument
            moved, flops = costs.bytes_moved(name, args, inputs, outputs), costs.flops(func, args, kwargs, result)
            self._count_kernel(name, moved, flops, outputs[0])

    def run_as_one_kernel(self, function: Callable[..., Any], args: tuple) -> Any:
        """Return the function's result; count it as one kernel that reads its arguments and writes the result once."""
        self._in_one_kernel = True
        try:
            result = function(*args)
        finally:
            self._in_one_kernel = False
        inputs, outputs = list(_tensors(args)), list(_tensors([result]))
        name = f"compiled {function.__name__}"
        self._observe(name, outputs)
        self._count_kernel(name, costs.bytes_of(inputs + outputs), 0, outputs[0])
        return result

    def _observe(self, name: str, outputs: list[Tensor]) -> None:
        for item in outputs:
            if self.memory.observe(item):
                self.memory.peak_place = f"{name} {current_place()}"

    def _count_kernel(self, name: str, moved: int, flops: int, output: Tensor) -> None:
        record, part, place = self.record, self.parts.current, current_place()
        record.bytes[part] += moved
        record.flops[part] += flops
        record.kernels[part] += 1
        for gpu in costs.GPUS.values():
            record.seconds[gpu.name] += gpu.seconds(moved, flops, output.dtype in dtypes.HALF)
        record.bytes_by_place[name, f"{place.file}:{place.line}"] += moved


def _tensors(items: Any) -> Iterator[Tensor]:
    for item in items:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, list | tuple):
            yield from _tensors(item)
