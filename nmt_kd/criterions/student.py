"""Build the student's architecture, which fairseq does not pass to its criterion."""

import torch
from fairseq import models
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask

from nmt_kd.criterions.config import DistillationConfig


def another_student(cfg: DistillationConfig, task: FairseqTask) -> FairseqEncoderDecoderModel:
    """Return another model like the student on the CPU, with weights of its own.

    torch's random numbers stay as they are. Where only the shapes matter, torch's device "meta" would save the weights,
    but BART and mBART read theirs while they initialise them.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        return models.build_model(cfg._get_root().model, task)
