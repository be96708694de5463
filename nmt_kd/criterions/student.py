"""Build the student's architecture, which fairseq does not pass to its criterion."""

import torch
from fairseq import models
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask

from nmt_kd.criterions.config import DistillationConfig


def another_student(cfg: DistillationConfig, task: FairseqTask, device: str = "cpu") -> FairseqEncoderDecoderModel:
    """Return another model like the student, with weights of its own; on the device "meta" it has none.

    torch's random numbers stay as they are.
    """
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return models.build_model(cfg._get_root().model, task)
