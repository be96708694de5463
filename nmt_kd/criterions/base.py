"""What all methods share: reading both models, padding, chunks, precision, logging and validation.

A method subclasses `DistillationCriterion` and says which loss terms it adds to the cross-entropy and with which
weights; `word_kd.py` is the shortest example.
"""

import functools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import fairseq
import torch
from fairseq import utils
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, FairseqCriterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor

from nmt_kd.caching.teacher import CachedReading, CachedTeacher
from nmt_kd.engine.chunks import Projection, TokenObjective, summed_objective
from nmt_kd.engine.distribution import Prediction
from nmt_kd.engine.models import Reading, read_features, target_token_index
from nmt_kd.engine.teacher import ChanceCheck, Teacher, TeacherReading
from nmt_kd.errors import UserError
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.precision import log_probabilities
from nmt_kd.options import AT_LEAST_0, SHARE, Allowed, check_options, option
from nmt_kd.version import __version__

logger = logging.getLogger(__name__)


@dataclass
class DistillationConfig(FairseqDataclass):
    """The options that every method has; a method's own dataclass inherits from this one."""

    teacher_path: str = option(
        "", "checkpoint of the teacher; several, separated by ':', are an ensemble (required, or --teacher-cache)"
    )
    teacher_cache: str = option(
        "",
        "folder of nmt-kd cache with the teacher's top words, in place of --teacher-path where a method needs no more",
    )
    label_smoothing: float = option(
        0.0,
        "epsilon of the cross-entropy's label smoothing, from 0 to below 1; 0 means none",
        Allowed("from 0 to below 1", lambda value: 0 <= value < 1),
    )
    report_accuracy: bool = option(False, "log how many gold tokens are the student's first choice, in percent")
    ignore_prefix_size: int = option(
        0, "leave the first N target tokens out of every loss (language tags, for example)", AT_LEAST_0
    )
    kd_chunk_tokens: int = option(
        0, "target tokens whose logits are held at a time; 0 chooses by vocabulary size and device", AT_LEAST_0
    )
    sentence_avg: bool = II("optimization.sentence_avg")
    valid_subset: str = II("dataset.valid_subset")
    disable_validation: bool = II("dataset.disable_validation")


@dataclass
class InterpolationConfig(DistillationConfig):
    """For methods that share the loss out between cross-entropy and distillation."""

    kd_alpha: float = option(
        0.5, "share of the distillation terms: loss = (1 - alpha) CE + alpha KD; from 0 to 1", SHARE
    )


@dataclass(frozen=True)
class Batch:
    """One batch as the methods see it: its non-padding target tokens, as one list."""

    gold: Tensor  # [tokens], the target tokens
    token_index: Tensor  # [tokens], where each stands in the flattened [batch * length] target
    sentence_ids: Tensor  # [batch], the sentences' numbers in the data set
    source_tokens: Tensor  # [batch, source length]
    prev_output_tokens: Tensor  # [batch, length], the decoders' inputs
    student: Reading
    teacher: TeacherReading | CachedReading  # runs when it is first asked for

    def decode_again(self, prev_output_tokens: Tensor) -> "Batch":
        """Both models' predictions of the same tokens from other decoder inputs [batch, length].

        The encoders do not run again; the student's decoder has fresh dropout.
        """
        return replace(
            self,
            prev_output_tokens=prev_output_tokens,
            student=replace(self.student, projection=self.student.decode_again(prev_output_tokens)),
            teacher=self.teacher.decode_again(prev_output_tokens),
        )


@dataclass(frozen=True)
class Chunk:
    """Some tokens of a batch, with what both models predict; computed when first asked for."""

    batch: Batch
    rows: slice  # which of the batch's tokens these are
    student_logits: Tensor  # [tokens, V], with gradients in training

    @property
    def gold(self) -> Tensor:
        """The target tokens, [tokens]."""
        return self.batch.gold[self.rows]

    @cached_property
    def student_log_p(self) -> Tensor:
        """The student's log-probabilities, [tokens, V], float32 or float64, with gradients in training."""
        return log_probabilities(self.student_logits)

    @cached_property
    def teacher(self) -> Prediction:
        """What the teacher predicts; from a cache, its most probable words."""
        return self.batch.teacher.predict(self.rows)

    @property
    def teacher_logits(self) -> Tensor:
        """[tokens, V], without gradients; a cache has none."""
        return self.teacher.logits

    @property
    def teacher_log_q(self) -> Tensor:
        """The teacher's log-probabilities, [tokens, V], float32 or float64, without gradients; a cache has not all."""
        return self.teacher.log_q

    @property
    def teacher_was_read(self) -> bool:
        """Whether anything has asked for the teacher's predictions."""
        return "teacher" in vars(self)


@dataclass
class Progress:
    """Where the training stands."""

    updates: int = 0  # done before the current batch
    is_dummy_batch: bool = False  # fairseq repeats a batch, without its gradients, on a worker that has run dry


class DistillationCriterion(FairseqCriterion):
    """Cross-entropy plus the terms of a method; the base class of every criterion here.

    A method defines `token_losses` and `loss_weights`. It may also decode several times (`passes`), add losses that
    belong to no target token (`distill`), and keep parameters and state as any torch module.
    """

    # Whether a token's loss is the same in any batch. Selection among the batch's tokens makes it depend on the others.
    TOKENS_ARE_INDEPENDENT = True
    # Whether the method works with models that are no transformers.
    ANY_ARCHITECTURE = True

    def __init__(self, cfg: DistillationConfig, task):
        super().__init__(task)
        self.cfg = cfg
        self.check_settings()
        self.teacher = self._open_teacher(task)
        self.chance_check = ChanceCheck()
        self.progress = Progress()
        _keep_up_with_training(self.progress, task)
        logger.info(f"to reproduce: {self.signature}")

    def _open_teacher(self, task) -> Teacher | CachedTeacher:
        if not self.cfg.teacher_cache:
            return Teacher.load(self.cfg.teacher_path, task)
        if self.cfg.teacher_path:
            raise UserError("--teacher-cache takes the place of --teacher-path; give one of them")
        if self.teacher_words is None:
            raise UserError(
                f"{self.cfg._name} with these settings needs the teacher itself, not only its top words; give "
                "--teacher-path instead of --teacher-cache"
            )
        teacher = CachedTeacher.open(self.cfg.teacher_cache, task, self.teacher_words, self)
        if not self.cfg.disable_validation:  # now, and not when an epoch's work would be lost
            for subset in self.cfg.valid_subset.split(","):
                teacher.cache.check(subset)
        return teacher

    # -- what a method defines ----------------------------------------------------------------------------------------

    def token_losses(self, chunk: Chunk) -> dict[str, Tensor]:
        """The method's own terms, by their log names (`..._loss`), each [tokens], unweighted; information in nats."""
        raise NotImplementedError

    def loss_weights(self, batch: Batch) -> dict[str, float | Tensor]:
        """The weight of `ce_loss` and of each term of `token_losses` in the training loss.

        A weight is a number, or a tensor with one for each token of the batch, [tokens].
        """
        raise NotImplementedError

    @property
    def teacher_words(self) -> int | None:
        """How many of the teacher's most probable words a token's loss needs; None: all, or the teacher itself.

        With a number, `--teacher-cache` can take the teacher's place.
        """
        return None

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Start with a fresh state where the checkpoint, one of plain training for instance, holds none."""
        if state_dict is not None:
            return super().load_state_dict(state_dict, *args, **kwargs)
        logger.warning(f"the checkpoint has no state of {self.cfg._name}; its state starts anew")

    def check_settings(self) -> None:
        """Raise UserError for settings that make no sense; a method may add checks to those of its options."""
        check_options(self.cfg, CRITERION_DATACLASS_REGISTRY[self.cfg._name])

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
        """Run the student on `sample`, which stays as it is, and keep what belongs to target tokens."""
        target = model.get_targets(sample, None)
        token_index = target_token_index(target, self.padding_idx, self.cfg.ignore_prefix_size)
        net_input = sample["net_input"]
        # first, for a cache looks at the sentences on the CPU and would wait for a student that runs already
        teacher = self.teacher.read(sample, token_index, like=next(model.parameters()))
        return Batch(
            gold=target.flatten()[token_index],
            token_index=token_index,
            sentence_ids=sample["id"],
            source_tokens=net_input["src_tokens"],
            prev_output_tokens=net_input["prev_output_tokens"],
            student=read_features(model, net_input, token_index),
            teacher=teacher,
        )

    def distill(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch's loss and the sums to log."""
        return summed_objective(self.passes(batch), self.cfg.kd_chunk_tokens)

    def passes(self, batch: Batch) -> Iterator[tuple[Projection, TokenObjective]]:
        """The student's features and their objective, once for each time that the decoders run."""
        weights = self.loss_weights(batch) if self.training else {}
        yield batch.student.projection, lambda logits, rows: self.objective(batch, weights, logits, rows)

    def objective(
        self, batch: Batch, weights: dict[str, float | Tensor], student_logits: Tensor, rows: slice
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of some tokens of the batch, [tokens], and what is logged of them.

        In validation the loss is the cross-entropy alone, so that runs with and without a teacher compare.
        """
        chunk = Chunk(batch, rows, student_logits)
        cross_entropy, nll = label_smoothed_cross_entropy(chunk.student_log_p, chunk.gold, self.cfg.label_smoothing)
        terms = {"ce_loss": cross_entropy, **self.token_losses(chunk)}
        if self.training and chunk.teacher_was_read:
            self.chance_check.observe(chunk.teacher, chunk.gold)
        logged = {"nll_loss": nll, **terms}
        if self.cfg.report_accuracy or not self.training:
            logged.update(self.measures(chunk))
        return self.weighted_sum(terms, weights, rows) if self.training else cross_entropy, logged

    @staticmethod
    def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float | Tensor], rows: slice) -> Tensor:
        """The training loss of some tokens, [tokens]."""
        parts = []
        for name, term in terms.items():
            weight = weights[name]
            parts.append(term * (weight[rows] if isinstance(weight, Tensor) else weight))
        return sum(parts[1:], start=parts[0])

    def measures(self, chunk: Chunk) -> dict[str, Tensor]:
        """Counts, [tokens], of which validation reports the shares."""
        first_choice = chunk.student_logits.argmax(-1)
        counts = {"n_counted": torch.ones_like(first_choice)}
        if not self.training:
            counts["n_agree"] = first_choice == chunk.teacher.first_choice
        if self.cfg.report_accuracy:
            counts["n_correct"] = first_choice == chunk.gold
        return counts

    # -- reports ------------------------------------------------------------------------------------------------------

    @property
    def signature(self) -> str:
        """One line that says what this run depends on: method, settings, teacher and versions."""
        facts = {"method": self.cfg._name, **self.cfg}
        for name in ("_name", "valid_subset", "disable_validation"):  # which change nothing about what is learnt
            del facts[name]
        facts["teacher_sha256"] = self.teacher.fingerprint
        facts |= {"nmt_kd": __version__, "fairseq": fairseq.__version__, "torch": torch.__version__}
        return "|".join(f"{name}:{value}" for name, value in facts.items())

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """Log the averages over all workers, losses in base 2 as everywhere in fairseq.

        So are terms that are no information (a ranking loss, a squared error): weighted, all of them add up to `loss`.
        """

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


def _keep_up_with_training(progress: Progress, task) -> None:
    """Note what fairseq tells the task, and no criterion: the number of updates, and which batches do not count."""
    train_step = task.train_step

    @functools.wraps(train_step)
    def train_step_with_note(sample, model, criterion, optimizer, update_num, ignore_grad=False, **kwargs):
        progress.updates, progress.is_dummy_batch = update_num, ignore_grad
        return train_step(sample, model, criterion, optimizer, update_num, ignore_grad=ignore_grad, **kwargs)

    task.train_step = train_step_with_note
