"""What all methods share: reading both models, padding, chunks, precision, logging and validation.

A method subclasses `DistillationCriterion` and says which loss terms it adds to the cross-entropy and with which
weights; `word_kd.py` is the shortest example.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import fairseq
import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor

from nmt_kd.errors import UserError
from nmt_kd.features import read_features, target_token_index
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.projection import Projection, chunked_objective
from nmt_kd.teacher import ChanceCheck, Teacher, TeacherReading
from nmt_kd.version import __version__

logger = logging.getLogger(__name__)


@dataclass
class DistillationConfig(FairseqDataclass):
    """The options that every method has; a method's own dataclass inherits from this one."""

    teacher_path: str = field(
        default="",
        metadata={"help": "checkpoint of the teacher; several, separated by ':', are an ensemble (required)"},
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "epsilon of the cross-entropy's label smoothing, from 0 to below 1; 0 means none"},
    )
    report_accuracy: bool = field(
        default=False, metadata={"help": "log how many gold tokens are the student's first choice, in percent"}
    )
    ignore_prefix_size: int = field(
        default=0, metadata={"help": "leave the first N target tokens out of every loss (language tags, for example)"}
    )
    kd_chunk_tokens: int = field(
        default=0,
        metadata={"help": "target tokens whose logits are held at a time; 0 chooses by vocabulary size and device"},
    )
    sentence_avg: bool = II("optimization.sentence_avg")


@dataclass(frozen=True)
class Batch:
    """One batch as the methods see it: its non-padding target tokens, as one list."""

    gold: Tensor  # [tokens], the target tokens
    token_index: Tensor  # [tokens], where each stands in the flattened [batch * length] target
    prev_output_tokens: Tensor  # [batch, length], the decoders' inputs
    student: Projection
    teacher: TeacherReading
    student_decodes_again: Callable[[Tensor], Projection]

    def decode_again(self, prev_output_tokens: Tensor) -> "Batch":
        """Both models' predictions of the same tokens from other decoder inputs [batch, length].

        The encoders do not run again; the student's decoder has fresh dropout.
        """
        return replace(
            self,
            prev_output_tokens=prev_output_tokens,
            student=self.student_decodes_again(prev_output_tokens),
            teacher=self.teacher.decode_again(prev_output_tokens),
        )


@dataclass(frozen=True)
class Chunk:
    """Some tokens of a batch, with both models' logits."""

    rows: slice  # which of the batch's tokens these are
    gold: Tensor  # [tokens]
    student_logits: Tensor  # [tokens, V], with gradients in training
    teacher_logits: Tensor  # [tokens, V], without


class DistillationCriterion(FairseqCriterion):
    """Cross-entropy plus the terms of a method; the base class of every criterion here.

    A method defines `token_losses` and `loss_weights`.
    """

    def __init__(self, cfg: DistillationConfig, task):
        super().__init__(task)
        self.cfg = cfg
        self.check_settings()
        self.teacher = Teacher.load(cfg.teacher_path, task)
        self.chance_check = ChanceCheck()
        logger.info(f"to reproduce: {self.signature}")

    # -- what a method defines ----------------------------------------------------------------------------------------

    def token_losses(self, chunk: Chunk) -> dict[str, Tensor]:
        """The method's own terms, by their log names (`..._loss`), each [tokens], unweighted and in nats."""
        raise NotImplementedError

    def loss_weights(self) -> dict[str, float | Tensor]:
        """The weight of `ce_loss` and of each term of `token_losses` in the training loss."""
        raise NotImplementedError

    def check_settings(self) -> None:
        """Raise UserError for settings that make no sense; a method adds its own checks to these."""
        require(0 <= self.cfg.label_smoothing < 1, "--label-smoothing", self.cfg.label_smoothing, "from 0 to below 1")
        require(self.cfg.ignore_prefix_size >= 0, "--ignore-prefix-size", self.cfg.ignore_prefix_size, "0 or more")
        require(self.cfg.kd_chunk_tokens >= 0, "--kd-chunk-tokens", self.cfg.kd_chunk_tokens, "0 or more")

    # -- one batch ----------------------------------------------------------------------------------------------------

    def forward(self, model, sample, reduce=True):
        """The loss summed over the batch's tokens, fairseq's sample size, and what is logged, all summed."""
        loss, sums = self.distill(self.read_batch(model, sample))
        sample_size = sample["target"].size(0) if self.cfg.sentence_avg else sample["ntokens"]
        logging_output = {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
            **sums,
        }
        return loss, sample_size, logging_output

    def read_batch(self, model, sample) -> Batch:
        """Run both models on `sample`, which stays as it is, and keep what belongs to target tokens."""
        target = model.get_targets(sample, None)
        token_index = target_token_index(target, self.padding_idx, self.cfg.ignore_prefix_size)
        net_input = sample["net_input"]
        student = read_features(model, net_input, token_index)
        return Batch(
            gold=target.flatten()[token_index],
            token_index=token_index,
            prev_output_tokens=net_input["prev_output_tokens"],
            student=student.projection,
            teacher=self.teacher.read(net_input, token_index, like=next(model.parameters())),
            student_decodes_again=student.decode_again,
        )

    def distill(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch's loss and the sums to log; a method with several decoder passes adds theirs to the first's."""
        return chunked_objective(
            batch.student, lambda logits, rows: self.objective(batch, logits, rows), self.cfg.kd_chunk_tokens
        )

    def objective(self, batch: Batch, student_logits: Tensor, rows: slice) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of some tokens of the batch, [tokens], and what is logged of them.

        In validation the loss is the cross-entropy alone, so that runs with and without a teacher compare.
        """
        chunk = Chunk(rows, batch.gold[rows], student_logits, batch.teacher.logits(rows))
        if self.training and not self.chance_check.done:
            self.chance_check.observe(chunk.teacher_logits, chunk.gold)
        cross_entropy, nll = label_smoothed_cross_entropy(student_logits, chunk.gold, self.cfg.label_smoothing)
        terms = {"ce_loss": cross_entropy, **self.token_losses(chunk)}
        logged = {"nll_loss": nll, **terms}
        if self.cfg.report_accuracy or not self.training:
            logged.update(self.measures(chunk))
        if not self.training:
            return cross_entropy, logged
        weights = self.loss_weights()
        return sum(weights[name] * term for name, term in terms.items()), logged

    def measures(self, chunk: Chunk) -> dict[str, Tensor]:
        """Counts, [tokens], of which validation reports the shares."""
        first_choice = chunk.student_logits.argmax(-1)
        counts = {"n_agree": first_choice == chunk.teacher_logits.argmax(-1)}
        counts["n_counted"] = torch.ones_like(first_choice)
        if self.cfg.report_accuracy:
            counts["n_correct"] = first_choice == chunk.gold
        return counts

    # -- reports ------------------------------------------------------------------------------------------------------

    @property
    def signature(self) -> str:
        """One line that says what this run depends on: method, settings, teacher and versions."""
        facts = {"method": self.cfg._name, **self.cfg}
        del facts["_name"]
        facts["teacher_sha256"] = self.teacher.fingerprint
        facts |= {"nmt_kd": __version__, "fairseq": fairseq.__version__, "torch": torch.__version__}
        return "|".join(f"{name}:{value}" for name, value in facts.items())

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """Log the averages over all workers, losses in base 2 as everywhere in fairseq."""

        def total(name: str) -> float:
            return sum(log.get(name, 0) for log in logging_outputs)

        names = {name: None for log in logging_outputs for name in log}  # in order, each once
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

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def require(holds: bool, flag: str, value, allowed: str) -> None:
    """Raise a UserError that names the flag, its value and what it may be, unless it holds."""
    if not holds:
        raise UserError(f"{flag} is {value}; it must be {allowed}")
