"""The gradients that a step leaves behind."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fairseq.criterions import FairseqCriterion
from torch.nn import Module, Parameter


@dataclass
class Gradients:
    """The names of the parameters whose gradients are not as they should be."""

    missing: list[str] = field(default_factory=list)  # trained parameters without a gradient
    wrong: list[str] = field(default_factory=list)  # gradients on another device or of another dtype
    of_teacher: list[str] = field(default_factory=list)  # parameters of the teacher that have a gradient


def faults(trained: Iterable[tuple[str, Parameter]], criterion: FairseqCriterion) -> Gradients:
    """Check the gradients of the `trained` parameters and of the criterion's teacher, and return the faults."""
    found = Gradients()
    for name, parameter in trained:
        if parameter.grad is None:
            found.missing.append(name)
        elif parameter.grad.dtype != parameter.dtype or parameter.grad.device != parameter.device:
            found.wrong.append(name)
    for model in teachers(criterion):
        found.of_teacher += [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    return found


def teachers(criterion: FairseqCriterion) -> list[Module]:
    """Return the models of a criterion's teacher; an empty list without a teacher or with a cached one."""
    return list(getattr(getattr(criterion, "teacher", None), "models", None) or [])
