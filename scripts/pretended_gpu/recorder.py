"""Run operations without values, and record what they would cost on a GPU."""

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pretended_gpu import costs, transfers, values
from pretended_gpu.memory import LiveMemory
from pretended_gpu.places import Parts, Place, current_place


@dataclass(frozen=True)
class Wait:
    """An operation for which the CPU waits for the GPU, and where it is called."""

    reason: str
    place: Place


@dataclass
class Record:
    """What some operations cost."""

    waits: Counter[Wait] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)  # by the part of the step, like the next ones
    flops: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)  # by the name of the GPU, without launching
    slow_products: Counter[Place] = field(default_factory=Counter)  # FLOPs in float32
    half_transcendentals: set[tuple[str, Place]] = field(default_factory=set)  # that need float32, in half precision
    bytes_by_place: Counter[tuple[str, str]] = field(default_factory=Counter)  # by operation and file:line


NEED_FLOAT32 = {"_log_softmax", "_softmax", "logsumexp", "exp", "log", "logaddexp"}


class Recorder(TorchDispatchMode):
    """Records all operations inside its context; to be entered inside a `FakeTensorMode`."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = Parts()
        self.memory = LiveMemory()
        self.record = Record()

    def restart(self) -> Record:
        """Begin a new record, which it returns; what is alive stays."""
        self.record = Record()
        self.memory.reset_peak()
        return self.record

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        inputs = [item for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)]
        result = transfers.answer(name, args, kwargs, inputs)
        if result is None:
            result = func(*transfers.without_masks(name, args), **kwargs)
        outputs = [item for item in tree_iter(result) if isinstance(item, Tensor)]
        if reason := transfers.reason_to_wait(name, args, kwargs, inputs, outputs):
            self.record.waits[Wait(reason, current_place())] += 1
        values.follow(func, name, args, kwargs, inputs, outputs)
        on_gpu = [item for item in outputs if item.is_cuda]
        for item in on_gpu:
            if self.memory.observe(item):
                self.memory.peak_place = f"{name} {current_place()}"
        if costs.runs_kernel(func, name, inputs, on_gpu):
            self._count(func, name, args, kwargs, [item for item in inputs if item.is_cuda], on_gpu, result)
        return result

    def _count(self, func, name, args, kwargs, inputs, outputs, result) -> None:
        moved, flops = costs.bytes_moved(name, args, inputs, outputs), costs.flops(func, args, kwargs, result)
        in_half = outputs[0].dtype in costs.HALF
        record, part, place = self.record, self.parts.current, current_place()
        record.bytes[part] += moved
        record.flops[part] += flops
        record.kernels[part] += 1
        for gpu in costs.GPUS.values():
            record.seconds[gpu.name] += gpu.seconds(moved, flops, in_half)
        record.bytes_by_place[name, f"{place.file}:{place.line}"] += moved
        if flops and not in_half:
            record.slow_products[place] += flops
        if name in NEED_FLOAT32 and in_half and place.is_ours:
            record.half_transcendentals.add((name, place))
