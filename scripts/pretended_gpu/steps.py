"""A training step and a validation step of a system, in each precision."""

import gc
from dataclasses import dataclass, field

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.models import BaseFairseqModel
from fairseq.optim.amp_optimizer import AMPOptimizer
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module

from pretended_gpu.places import LOSSES, STUDENT, TEACHER
from pretended_gpu.recorder import Record, Recorder
from pretended_gpu.systems import System
from pretended_gpu.workplace import Workplace, on_gpu

UPDATE = 5  # of 100: inside annealing's first stage

# The dtype of the weights, and whether fairseq runs the step under autocast.
PRECISIONS = {
    "fp32": (torch.float32, False),
    "fp16": (torch.float16, False),
    "bf16": (torch.bfloat16, False),
    "amp": (torch.float32, True),
}


class ScalingOptimizer:
    """Scales the loss as fairseq's optimisers for half precision do."""

    def backward(self, loss: torch.Tensor) -> None:
        """Compute the gradients."""
        (loss * 128.0).backward()


class AutocastOptimizer(ScalingOptimizer, AMPOptimizer):
    """Makes fairseq run the step under autocast, by its type."""

    def __init__(self) -> None:
        """Do without fairseq's arguments."""


@dataclass
class Step:
    """What one step cost, and what it left behind."""

    record: Record
    peak: int  # bytes of all tensors
    peak_place: str
    loss_dtype: torch.dtype
    logged: dict[str, str]  # the devices of the logged tensors
    missing: list[str] = field(default_factory=list)  # trained parameters without a gradient
    wrong: list[str] = field(default_factory=list)  # gradients on another device or of another dtype


@dataclass
class Steps:
    """The second training step and the validation step after it; the teacher has moved to the GPU by then."""

    resident: int  # bytes of weights, gradients and states
    trained: int  # number of trained parameters
    train: Step
    valid: Step


class Pretence:
    """A context in which tensors have no values, and their operations are recorded; it can be entered again."""

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.recorder = Recorder()

    def __enter__(self) -> Recorder:
        self.mode.__enter__()
        return self.recorder.__enter__()

    def __exit__(self, *error) -> None:
        self.recorder.__exit__(*error)
        self.mode.__exit__(*error)


def take_steps(workplace: Workplace, system: System, precision: str) -> Steps:
    """Build a system and take two training steps and a validation step, of which the last two are returned.

    Raises what the step raises, such as torch's RuntimeError for tensors on different devices.
    """
    task, cfg = workplace.task(), workplace.parse(*workplace.flags(system))
    dtype, autocast = PRECISIONS[precision]
    pretence = Pretence()
    with pretence:
        student, criterion = workplace.build(task, cfg)
        student, criterion = (module.to(dtype=dtype).to("cuda") for module in (student, criterion))
    batch = workplace.batch(task)
    with pretence as recorder:
        sample = on_gpu(batch)
        trained = [*student.named_parameters(), *criterion.named_parameters()]
        optimizer = AutocastOptimizer() if autocast else ScalingOptimizer()

        def train(update: int) -> tuple:
            criterion.train()
            return task.train_step(sample, student, criterion, optimizer, update)

        def valid() -> tuple:
            criterion.eval()
            return task.valid_step(sample, student, criterion)

        train(UPDATE)
        student.zero_grad(set_to_none=True)
        criterion.zero_grad(set_to_none=True)
        watch_parts(recorder, student, criterion)
        gc.collect()
        resident = recorder.memory.live
        train_step = _measured(recorder, train, UPDATE + 1)
        resident += sum(p.grad.numel() * p.grad.element_size() for _, p in trained if p.grad is not None)
        train_step.missing = [name for name, parameter in trained if parameter.grad is None]
        train_step.wrong = [
            name
            for name, parameter in trained
            if parameter.grad is not None
            and (parameter.grad.dtype != parameter.dtype or parameter.grad.device != parameter.device)
        ]
        valid_step = _measured(recorder, valid)
    return Steps(resident, sum(parameter.numel() for _, parameter in trained), train_step, valid_step)


def _measured(recorder: Recorder, function, *arguments) -> Step:
    record = recorder.restart()
    loss, _, logged = function(*arguments)
    devices = {name: value.device.type for name, value in logged.items() if torch.is_tensor(value)}
    step = Step(record, recorder.memory.peak, recorder.memory.peak_place, loss.dtype, devices)
    recorder.restart()
    return step


def watch_parts(recorder: Recorder, student: BaseFairseqModel, criterion: FairseqCriterion) -> None:
    """Tell the recorder to which part of a step each module belongs."""

    def watch(part: str, model: Module) -> None:
        for module in (model, model.encoder, model.decoder):
            recorder.parts.watch(part, module)
        if isinstance(layer := getattr(model.decoder, "output_projection", None), Module):
            recorder.parts.watch(LOSSES, layer)

    watch(STUDENT, student)
    for model in getattr(getattr(criterion, "teacher", None), "models", None) or []:
        watch(TEACHER, model)
    for name, module in criterion.named_children():
        if name == "seer":  # a decoder that is trained with the student
            recorder.parts.watch(STUDENT, module)
    recorder.parts.watch(LOSSES, criterion)
