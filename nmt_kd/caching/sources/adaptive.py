"""Several fairseq checkpoints, separated by ":", weighted by how well each predicts a sentence's reference."""

from dataclasses import dataclass

from fairseq.tasks import FairseqTask

from nmt_kd.caching.sources import checkpoint
from nmt_kd.engine.adaptive import AdaptiveTeacher
from nmt_kd.errors import UserError
from nmt_kd.options import ABOVE_0, option


@dataclass
class Options:
    """The options of `--source adaptive`."""

    adaptive_temperature: float = option(
        1.0,
        "divides the mean log-likelihood of a reference's tokens, in nats, before the softmax over the teachers: high "
        "values make an ordinary ensemble, low ones choose the best teacher for each sentence; above 0",
        ABOVE_0,
    )


def open_source(data: str, teacher_path: str, options: Options) -> tuple[FairseqTask, AdaptiveTeacher]:
    """Return the task that the first teacher was trained for, on `data`, and the teachers.

    Raises UserError if there is only one, or one does not fit.
    """
    task, teacher = checkpoint.open_source(data, teacher_path, checkpoint.Options())
    if len(teacher.models) < 2:
        raise UserError(
            f"--source adaptive weighs several teachers, but --teacher-path names one, {teacher_path}; separate them "
            "by ':', or use --source checkpoint"
        )
    return task, AdaptiveTeacher(teacher.models, teacher.fingerprint, options.adaptive_temperature)
