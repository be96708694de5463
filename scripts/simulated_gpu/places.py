"""Find out which code runs an operation, and to which part of a training step it belongs."""

import functools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

import fairseq
from torch import nn

import nmt_kd

# Folders or files whose code is ours, with the name that reports give them; tests add their own.
OURS = {str(Path(nmt_kd.__file__).parent): "nmt_kd"}
FAIRSEQ = str(Path(fairseq.__file__).parent)

TEACHER, STUDENT, LOSSES = "teacher", "student", "losses"


@dataclass(frozen=True)
class Place:
    """Where an operation is called: the innermost frame that belongs to us or to fairseq."""

    file: str
    function: str
    line: int

    @property
    def is_ours(self) -> bool:
        return self.file.startswith(tuple(OURS.values()))

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


def current_place() -> Place:
    """Return the place that runs the current operation."""
    frame = sys._getframe(1)
    while frame is not None:
        if place := _name_of(frame.f_code):
            return Place(*place, frame.f_lineno)
        frame = frame.f_back
    return Place("torch", "backward", 0)


@functools.cache
def _name_of(code: CodeType) -> tuple[str, str] | None:
    """Return the file and the function of code that belongs to us or to fairseq."""
    for folder, name in {**OURS, FAIRSEQ: "fairseq"}.items():
        if code.co_filename.startswith(folder):
            function = code.co_qualname.split(".<locals>")[0]  # comprehensions have frames up to Python 3.11
            return name + code.co_filename[len(folder) :], function
    return None


@dataclass
class Parts:
    """The part of a training step that runs: the teacher, the losses with the output projections, or the student.

    What an autograd graph of the criterion's runs in the final backward pass counts as the student's; the gradients
    of the output projections do not, because `SummedLoss` computes them in the forward pass.
    """

    running: list[str] = field(default_factory=list)  # innermost last
    watched: set[int] = field(default_factory=set)

    def watch(self, part: str, module: nn.Module) -> None:
        """Count what runs inside a module, from now on, as belonging to a part."""
        if id(module) in self.watched:
            return
        self.watched.add(id(module))
        module.register_forward_pre_hook(lambda *args: self.running.append(part))
        module.register_forward_hook(lambda *args: self.running.pop() and None, always_call=True)

    @property
    def current(self) -> str:
        """The part that runs."""
        if self.running:
            return self.running[-1]
        return LOSSES if current_place().is_ours else STUDENT
