"""The progress of the training, the signature of a run, and the averages that are logged."""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import fairseq
import torch
from fairseq import utils
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from nmt_kd.version import __version__

OF_VALIDATION = ("valid_subset", "disable_validation")  # matter only to methods whose training depends on validation


@dataclass
class TrainingProgress:
    """The progress of the training, which fairseq passes to the task but not to the criterion."""

    updates: int = 0  # finished before the current batch
    is_dummy_batch: bool = False  # a worker without batches left repeats one, and fairseq discards its gradients
    is_repeated_batch: bool = False  # under --amp, fairseq repeats a batch whose gradients have overflowed

    @classmethod
    def of(cls, task: FairseqTask) -> "TrainingProgress":
        """Return a progress that is updated at each training step of `task`."""
        progress, train_step = cls(), task.train_step

        @functools.wraps(train_step)
        def train_step_with_progress(sample, model, criterion, optimizer, update_num, ignore_grad=False, **kwargs):
            progress.updates, progress.is_dummy_batch = update_num, ignore_grad
            progress.is_repeated_batch = getattr(task, "repeats_batches", False)
            return train_step(sample, model, criterion, optimizer, update_num, ignore_grad=ignore_grad, **kwargs)

        task.train_step = train_step_with_progress
        return progress


def signature(cfg, teacher_fingerprint: str | None, learns_from_validation: bool) -> str:
    """Return one line with all that the results depend on: method, settings, teacher and versions."""
    without_effect = ("_name",) if learns_from_validation else ("_name", *OF_VALIDATION)
    facts = {"method": cfg._name, **{name: value for name, value in cfg.items() if name not in without_effect}}
    if teacher_fingerprint is not None:
        facts["teacher_sha256"] = teacher_fingerprint
    facts |= {"nmt_kd": __version__, "fairseq": fairseq.__version__, "torch": torch.__version__}
    return "|".join(f"{name}:{value}" for name, value in facts.items())


def log_averages(logging_outputs: Iterable[dict], percentages: Mapping[str, str]) -> None:
    """Log the averages of the summed `logging_outputs` of all workers, with losses in bits as everywhere in fairseq.

    `percentages` maps a count to the name of its percentage of the tokens with a prediction.

    Terms that are not in nats, such as a ranking loss or a squared error, are divided by ln 2 too, so that the weighted
    terms add up to `loss`. fairseq's task multilingual_translation repeats all values for each language pair, such as
    "de-en:loss"; these are averaged over the pair.
    """
    by_prefix: dict[str, list[dict]] = {}
    for output in logging_outputs:
        parts: dict[str, dict] = {}
        for name, value in output.items():
            pair, colon, plain_name = name.rpartition(":")
            parts.setdefault(pair + colon, {})[plain_name] = value
        for prefix, part in parts.items():
            by_prefix.setdefault(prefix, []).append(part)
    for prefix, outputs in by_prefix.items():
        _log_averages_of(outputs, prefix, percentages)


def _log_averages_of(outputs: list[dict], prefix: str, percentages: Mapping[str, str]) -> None:
    """Log averages with a prefix to their names."""

    def total(name: str) -> float:
        return sum(output.get(name, 0) for output in outputs)

    def log(name: str, value: float, weight: float) -> None:
        metrics.log_scalar(prefix + name, value, weight, round=3)

    names = {name: None for output in outputs for name in output}  # in order, each once
    sample_size, ntokens = total("sample_size"), total("ntokens")
    for name in names:
        if name == "nll_loss":
            log(name, total(name) / ntokens / math.log(2), ntokens)
            metrics.log_derived(f"{prefix}ppl", lambda meters: utils.get_perplexity(meters[f"{prefix}nll_loss"].avg))
        elif name == "loss" or name.endswith("_loss"):
            log(name, total(name) / sample_size / math.log(2), sample_size)
    counted, unknown = total("n_counted"), total("n_unknown")
    shares = [("n_correct", "accuracy", counted)]
    shares += [(count, share, counted - unknown) for count, share in percentages.items()]
    for count, share, of in shares:
        if count in names and of > 0:
            log(share, 100 * total(count) / of, of)
    if unknown > 0:
        asked = total("n_asked")
        log("teacher_coverage", 100 * (1 - unknown / asked), asked)
