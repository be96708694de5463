"""A training step and a validation step of a system, in each precision."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion
from fairseq.models import BaseFairseqModel
from fairseq.optim.amp_optimizer import AMPOptimizer
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module

from nmt_kd.criterions.base import DistillationCriterion
from nmt_kd.engine.chance import ChanceCheck
from simulated_gpu.gradients import Gradients, faults, teachers
from simulated_gpu.places import LOSSES, STUDENT, TEACHER
from simulated_gpu.recorder import CostRecorder, Record, Recorder
from simulated_gpu.systems import System
from simulated_gpu.workplace import Workplace

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
    """What one step did, and what it left behind."""

    record: Record
    loss_dtype: torch.dtype
    logged: dict[str, str]  # the devices of the logged tensors
    gradients: Gradients = field(default_factory=Gradients)


@dataclass
class Steps:
    """The second training step and the validation step after it; the teacher has moved to the GPU by then."""

    trained: int  # number of trained parameters
    train: Step
    valid: Step


@dataclass
class Memory:
    """The memory of a training step, in bytes, without the optimiser's."""

    resident: int  # weights, gradients and states
    peak: int
    peak_place: str


class Simulation:
    """A context in which tensors have no values, and their operations are recorded; it can be entered again."""

    def __init__(self, recorder: Recorder) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.recorder = recorder

    def __enter__(self) -> Recorder:
        self.mode.__enter__()
        return self.recorder.__enter__()

    def __exit__(self, *error) -> None:
        self.recorder.__exit__(*error)
        self.mode.__exit__(*error)


def take_steps(workplace: Workplace, system: System, precision: str) -> Steps:
    """Build a system and take two training steps and a validation step, of which the last two are returned.

    Raises what a step raises, such as torch's RuntimeError for tensors on different devices.
    """
    return Stepping(workplace, system, precision, Recorder()).steps()


def measure_steps(workplace: Workplace, system: System, precision: str) -> tuple[Steps, Memory]:
    """Do what `take_steps` does and record the costs of the steps, and the memory of the training step."""
    recorder = CostRecorder()
    stepping = Stepping(workplace, system, precision, recorder)
    with stepping.simulation:
        stepping.warm_up()
        watch_parts(recorder, stepping.student, stepping.criterion)
        gc.collect()
        resident = recorder.memory.live
        train = stepping.train()
        memory = Memory(resident, recorder.memory.peak, recorder.memory.peak_place)
        gradients = (parameter.grad for _, parameter in stepping.trained)
        memory.resident += sum(grad.numel() * grad.element_size() for grad in gradients if grad is not None)
        return Steps(stepping.size, train, stepping.valid()), memory


class Stepping:
    """A system on the simulated GPU, and a batch."""

    def __init__(self, workplace: Workplace, system: System, precision: str, recorder: Recorder):
        self.task, cfg = workplace.task(), workplace.parse(*workplace.flags(system))
        dtype, autocast = PRECISIONS[precision]
        self.simulation = Simulation(recorder)
        self.recorder = recorder
        with self.simulation.mode:
            student, criterion = workplace.build(self.task, cfg)
        batch = workplace.batch(self.task)
        with self.simulation:
            self.student, self.criterion = (module.to(dtype=dtype).to("cuda") for module in (student, criterion))
            self.sample = utils.move_to_cuda(batch)
        self.trained = [*self.student.named_parameters(), *self.criterion.named_parameters()]
        self.size = sum(parameter.numel() for _, parameter in self.trained)
        self.optimizer = AutocastOptimizer() if autocast else ScalingOptimizer()

    def steps(self) -> Steps:
        """Take all steps."""
        with self.simulation:
            self.warm_up()
            return Steps(self.size, self.train(), self.valid())

    def warm_up(self) -> None:
        """Take the first training step, in which the teacher moves to the GPU and is compared with chance."""
        self._train(UPDATE)
        end_comparison_with_chance(self.criterion)
        self.student.zero_grad(set_to_none=True)
        self.criterion.zero_grad(set_to_none=True)

    def train(self) -> Step:
        """Take a training step."""
        step = self._observed(self._train, UPDATE + 1)
        step.gradients = faults(self.trained, self.criterion)
        return step

    def valid(self) -> Step:
        """Take a validation step."""
        self.criterion.eval()
        return self._observed(self.task.valid_step, self.sample, self.student, self.criterion)

    def _train(self, update: int) -> tuple:
        self.criterion.train()
        return self.task.train_step(self.sample, self.student, self.criterion, self.optimizer, update)

    def _observed(self, function: Callable[..., tuple], *arguments) -> Step:
        record = self.recorder.restart()
        loss, _, logged = function(*arguments)
        return Step(record, loss.dtype, {name: str(v.device.type) for name, v in logged.items() if torch.is_tensor(v)})


def watch_parts(recorder: CostRecorder, student: BaseFairseqModel, criterion: FairseqCriterion) -> None:
    """Tell the recorder to which part of a step each module belongs."""

    def watch(part: str, model: Module) -> None:
        for module in (model, model.encoder, model.decoder):
            recorder.parts.watch(part, module)
        if isinstance(layer := getattr(model.decoder, "output_projection", None), Module):
            recorder.parts.watch(LOSSES, layer)

    watch(STUDENT, student)
    for model in teachers(criterion):
        watch(TEACHER, model)
    for module in criterion.children():
        if any(hasattr(part, "self_attn") for part in module.modules()):  # a decoder besides the student's
            recorder.parts.watch(STUDENT, module)
    recorder.parts.watch(LOSSES, criterion)


def end_comparison_with_chance(criterion: FairseqCriterion) -> None:
    """End a method's comparison of its teacher with chance, which waits for the GPU, as after its first tokens.

    Here it never ends, because the number of tokens is a value on the GPU.
    """
    if isinstance(criterion, DistillationCriterion):
        criterion.chance_check.tokens = ChanceCheck.TOKENS
