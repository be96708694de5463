"""Methods with a deliberate mistake each, which the tests on the simulated GPU must find."""

import torch
from fairseq.criterions import register_criterion
from torch import nn

from nmt_kd.criterions.word_kd import WordKD, WordKDConfig

BY_TRAINER = ("--fp16",)  # modes in which mistakes with gradients must be found, too
MISTAKES = {}  # the names of the criterions, and what the findings must say


def mistake(finding):
    """Register a criterion whose mistake is to be found."""

    def register(kind):
        name = f"mistake_{kind.__name__.lower()}"
        MISTAKES[name] = finding
        return register_criterion(name, dataclass=WordKDConfig)(kind)

    return register


class Changed(WordKD):
    """Word-level distillation with `change` applied to its term."""

    def token_losses(self, chunk):
        return {"kd_loss": self.change(super().token_losses(chunk)["kd_loss"], chunk)}


@mistake("waits for the GPU: item in tests/gpu/controls.py AsksForAValue.change")
class AsksForAValue(Changed):
    def change(self, term, chunk):
        return term * term.sum().item()


@mistake("waits for the GPU: item in tests/gpu/controls.py BranchesOnATensor.change")
class BranchesOnATensor(Changed):
    def change(self, term, chunk):
        return term if (term > 0).any() else 2 * term


@mistake("waits for the GPU: index by a mask in tests/gpu/controls.py IndexesByAMask.change")
class IndexesByAMask(Changed):
    def change(self, term, chunk):
        return term + term[chunk.gold > 10].sum()


@mistake("waits for the GPU: copy from cpu to cuda in tests/gpu/controls.py CopiesANumber.change")
class CopiesANumber(Changed):
    def change(self, term, chunk):
        return term * torch.tensor([0.5], device=term.device)


@mistake("waits for the GPU: copy from cuda to cpu in tests/gpu/controls.py CopiesBack.change")
class CopiesBack(Changed):
    def change(self, term, chunk):
        self.latest = term.detach().cpu()
        return term


@mistake("Expected all tensors to be on the same device")
class UsesACPUTensor(Changed):
    def change(self, term, chunk):
        return term * torch.ones(len(term))


@mistake("expected mat1 and mat2 to have the same dtype")
class MixesDtypes(Changed):
    def change(self, term, chunk):
        return term + (chunk.student_logits @ torch.ones(chunk.student_logits.size(1), 1, device=term.device)).sum(-1)


@mistake("in half precision: _softmax in tests/gpu/controls.py TakesASoftmaxInHalf.change")
class TakesASoftmaxInHalf(Changed):
    def change(self, term, chunk):
        return term + chunk.student_logits.softmax(-1).sum(-1)


@mistake("in float32: a matrix product in tests/gpu/controls.py MultipliesInFloat32.change")
class MultipliesInFloat32(Changed):
    def change(self, term, chunk):
        return term + (
            chunk.student_logits.float()
            @ chunk.student_logits.new_ones(chunk.student_logits.size(1), 1, dtype=torch.float32)
        ).sum(-1)


@mistake("the loss is torch.float16")
class ReturnsAHalfLoss(WordKD):
    def forward(self, model, sample, reduce=True):
        loss, size, logged = super().forward(model, sample, reduce)
        return loss.half(), size, logged


@mistake("on the cpu: the logged kd_loss")
class LogsFromTheCPU(WordKD):
    def forward(self, model, sample, reduce=True):
        loss, size, logged = super().forward(model, sample, reduce)
        return loss, size, logged | {"kd_loss": torch.zeros(())}


@mistake("no gradient: unused")
class HasAnUnusedParameter(WordKD):
    def __init__(self, cfg, task):
        super().__init__(cfg, task)
        self.unused = nn.Parameter(torch.zeros(3))


@mistake("gradient of another dtype or device: stretched")
class HasAGradientInFloat64(WordKD):
    def __init__(self, cfg, task):
        super().__init__(cfg, task)
        self.stretched = nn.Parameter(torch.zeros(3))

    def forward(self, model, sample, reduce=True):
        loss, size, logged = super().forward(model, sample, reduce)
        self.stretched.grad_dtype = None  # torch then accepts any
        self.stretched.grad = torch.zeros(3, device="cuda", dtype=torch.float64)
        return loss, size, logged


@mistake("gradient of the teacher: ")
class TrainsTheTeacher(WordKD):
    def forward(self, model, sample, reduce=True):
        result = super().forward(model, sample, reduce)
        weights = next(self.teacher.models[0].parameters())
        weights.grad = torch.zeros_like(weights)
        return result
