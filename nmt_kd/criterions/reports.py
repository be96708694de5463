"""What criteria tell fairseq, and fairseq criteria."""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import fairseq
import torch
from fairseq import utils
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from nmt_kd.version import __version__

NOT_LEARNT_FROM = ("_name", "valid_subset", "disable_validation")  # settings that change nothing about what is learnt


@dataclass
class Progress:
    """The state of the training, as fairseq tells the task and no criterion."""

    updates: int = 0  # done before the current batch
    is_dummy_batch: bool = False  # fairseq repeats a batch, without its gradients, on a worker that has run dry

    @classmethod
    def of(cls, task: FairseqTask) -> "Progress":
        """A progress that follows the training steps of `task`."""
        progress, train_step = cls(), task.train_step

        @functools.wraps(train_step)
        def train_step_with_note(sample, model, criterion, optimizer, update_num, ignore_grad=False, **kwargs):
            progress.updates, progress.is_dummy_batch = update_num, ignore_grad
            return train_step(sample, model, criterion, optimizer, update_num, ignore_grad=ignore_grad, **kwargs)

        task.train_step = train_step_with_note
        return progress


def signature(cfg, teacher_fingerprint: str | None) -> str:
    """One line that says what a run depends on: method, settings, teacher and versions."""
    facts = {"method": cfg._name, **{name: value for name, value in cfg.items() if name not in NOT_LEARNT_FROM}}
    if teacher_fingerprint is not None:
        facts["teacher_sha256"] = teacher_fingerprint
    facts |= {"nmt_kd": __version__, "fairseq": fairseq.__version__, "torch": torch.__version__}
    return "|".join(f"{name}:{value}" for name, value in facts.items())


def log_averages(logging_outputs: Iterable[dict]) -> None:
    """Log the averages of summed `logging_outputs` over all workers, losses in base 2 as everywhere in fairseq.

    Terms that do not measure information (a ranking loss, a squared error) are divided by ln 2 too, so that the
    weighted terms add up to `loss`.
    """
    outputs = list(logging_outputs)

    def total(name: str) -> float:
        return sum(output.get(name, 0) for output in outputs)

    names = {name: None for output in outputs for name in output}  # in order, each once
    sample_size, ntokens = total("sample_size"), total("ntokens")
    for name in names:
        if name == "nll_loss":
            metrics.log_scalar(name, total(name) / ntokens / math.log(2), ntokens, round=3)
            metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        elif name == "loss" or name.endswith("_loss"):
            metrics.log_scalar(name, total(name) / sample_size / math.log(2), sample_size, round=3)
    counted = total("n_counted")
    for count, share in (("n_agree", "teacher_agreement"), ("n_correct", "accuracy")):
        if count in names and counted > 0:
            metrics.log_scalar(share, 100 * total(count) / counted, counted, round=3)
