"""A fairseq checkpoint with the student's dictionaries, or an ensemble of several, separated by ":"."""

from dataclasses import dataclass

from fairseq.tasks import FairseqTask

from nmt_kd.caching.subsets import with_sentences_as_on_disk
from nmt_kd.checkpoints.reading import read_model
from nmt_kd.checkpoints.task import task_on
from nmt_kd.engine.teacher import Teacher


@dataclass
class Options:
    """This kind has no options."""


def open_source(data: str, teacher_path: str, options: Options) -> tuple[FairseqTask, Teacher]:
    """Return the task that the teacher was trained for, on `data`, and the teacher; UserError if it does not fit."""
    checkpoint = teacher_path.split(":")[0]
    task = task_on(checkpoint, with_sentences_as_on_disk(read_model(checkpoint)["cfg"]), data)
    return task, Teacher.load(teacher_path, task)
