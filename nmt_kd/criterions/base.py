"""The base class of all methods: it runs the models, and handles padding, chunks, precision, logging and validation.

A method subclasses `DistillationCriterion` and defines what it needs of a teacher, which loss terms it adds to the
cross-entropy, and with which weights. `word_kd.py` is the shortest example; see docs/extending.md.
"""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar

import torch
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, FairseqCriterion
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf
from torch import Tensor, nn

from nmt_kd.caching.teacher import CachedTeacher
from nmt_kd.criterions.batch import Batch, Chunk
from nmt_kd.criterions.config import DistillationConfig, InterpolationConfig, TeacherConfig
from nmt_kd.criterions.reports import TrainingProgress, log_averages, signature
from nmt_kd.engine.chance import ChanceCheck
from nmt_kd.engine.chunks import SummedLoss
from nmt_kd.engine.models import run_model, target_token_index
from nmt_kd.engine.predictions import DeclaredPredictions, Need, TeacherSource, UndeclaredNeedError
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.options import check_options

__all__ = ["Batch", "Chunk", "DistillationConfig", "DistillationCriterion", "InterpolationConfig", "TeacherConfig"]

logger = logging.getLogger(__name__)

Weights = dict[str, float | Tensor]
EXTRA = "_extra_state"  # torch's key in a state
MADE_BY = "made_by"  # the key in an extra state for the method


class DistillationCriterion(FairseqCriterion):
    """Cross-entropy plus the weighted loss terms of a method; the base class of all criterions of this package."""

    # Whether a token's loss is the same in any batch; not if the method selects among the tokens of a batch. If this
    # depends on the settings, the class has the value for the default settings, and `__init__` sets the actual one.
    tokens_are_independent = True
    # Whether training depends on the results of validations.
    learns_from_validation = False
    # Whether the method works with models that are not transformers.
    any_architecture = True
    # Flags with which --teacher-cache can replace the teacher, for methods that otherwise need the teacher itself.
    settings_for_a_cache = ""
    # Maps a count from `measures` to the name under which it is logged, as a percentage of tokens with a prediction.
    percentages: ClassVar[dict[str, str]] = {"n_agree": "teacher_agreement"}

    teacher: TeacherSource | None
    saved_with_the_model: nn.Parameter

    def __init__(self, cfg: DistillationConfig, task: FairseqTask):
        super().__init__(task)
        self.cfg = cfg
        self.check_settings()
        # Bypass torch's registration of modules, so that the teacher is not saved or optimised with the student.
        object.__setattr__(self, "teacher", self.open_teacher(task))
        self.chance_check = ChanceCheck()
        self.progress = TrainingProgress.of(task)
        if self.has_extra_state:  # fairseq saves the state of a criterion only if it has a parameter
            self.saved_with_the_model = nn.Parameter(torch.zeros(1))
        if logger.isEnabledFor(logging.INFO):  # only in the first of several workers, which alone reads the files
            logger.info(f"to reproduce: {self.signature}")

    # -- what a method defines ----------------------------------------------------------------------------------------

    @property
    def needs(self) -> Need | None:
        """What the method needs of its teacher: TopWords(k), FullDistribution() or HiddenStates(); None for no teacher.

        If TopWords are enough, `--teacher-cache` can replace `--teacher-path`.
        """
        return None

    def token_losses(self, chunk: Chunk) -> dict[str, Tensor]:
        """Return the method's loss terms by their names in the log (`..._loss`), each [tokens], unweighted, in nats.

        Gradients flow only through the chunk's logits. Terms that depend on other tensors with gradients, such as
        hidden states or parameters of the method, belong in `batch_losses`.
        """
        return {}

    def loss_weights(self, batch: Batch) -> Weights:
        """Return the weights of `ce_loss` and of each term in the training loss, each a number or a tensor [tokens].

        This must be a pure function of the batch and the method's state. No gradients flow through weights.
        """
        raise NotImplementedError

    # -- what a method may define -------------------------------------------------------------------------------------

    def check_settings(self) -> None:
        """Raise UserError for settings that are not allowed; a method may add checks."""
        check_options(self.cfg, CRITERION_DATACLASS_REGISTRY[self.cfg._name])
        self.check_backend(OmegaConf.select(self.cfg._get_root(), "distributed_training.ddp_backend"))

    @classmethod
    def check_backend(cls, ddp_backend: str | None) -> None:
        """Raise UserError for a way to divide the training among workers that is not supported."""
        if ddp_backend == "fully_sharded":
            raise UserError(
                "--ddp-backend fully_sharded divides the output layer among workers, but the criterions of nmt_kd "
                "need all of it; give --ddp-backend legacy_ddp or pytorch_ddp"
            )

    def open_teacher(self, task: FairseqTask) -> TeacherSource | None:
        """Return the teacher: by default, that of `--teacher-path` or `--teacher-cache`, or None without needs."""
        if self.needs is None:
            return None
        return self.open_checkpoint_or_cache(self.cfg.teacher_path, self.cfg.teacher_cache, task)

    def open_checkpoint_or_cache(self, teacher_path: str, teacher_cache: str, task: FairseqTask) -> TeacherSource:
        """Return the teacher in a checkpoint, an ensemble or a cache, one of which is named; UserError if unusable."""
        if task.cfg is None:
            raise UserError(
                f"{self.cfg._name} cannot train with {type(task).__name__}, which may have several language pairs; "
                "choose --task translation, or a criterion for several pairs (see docs/methods.md)"
            )
        if not teacher_cache:
            from_checkpoint = Teacher.load(teacher_path, task)
            from_checkpoint.warn_of_longer_students(task.max_positions())
            return from_checkpoint
        if teacher_path:
            raise UserError("--teacher-cache replaces --teacher-path; give only one of them")
        assert self.needs is not None
        teacher = CachedTeacher.open(
            teacher_cache, task, self.needs, self, self.cfg._name, self.settings_for_a_cache, self.cfg.train_subset
        )
        if not self.cfg.disable_validation:  # fail now, not after the first epoch
            for subset in self.cfg.valid_subset.split(","):
                teacher.cache.validate_on(subset)
        return teacher

    def prepare(self, model: BaseFairseqModel, sample: dict) -> dict:
        """Return the batch to train on, such as `sample` with sampled targets or noise.

        It has the form of fairseq's `sample`, which must not be changed.
        """
        return sample

    def update_state(self, batch: Batch) -> None:
        """Update the method's state, once for each training batch and before its loss is computed.

        A batch that fairseq repeats, because its gradients have overflowed under --amp, is not passed again.

        `batch.student.model` is the student. Every worker calls this equally often: where fairseq trains on a dummy
        batch, `batch` has no tokens.
        """

    def passes(self, batch: Batch) -> Iterator[Batch]:
        """Yield the views of a batch whose losses are summed; validation uses only the first.

        A view is requested when all chunks of the previous one are done, so it may depend on their notes.
        """
        yield batch

    def batch_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return scalar terms that do not belong to target tokens; those without a weight are only logged."""
        return {}

    # -- one batch ----------------------------------------------------------------------------------------------------

    def forward(self, model, sample, reduce=True):
        """Return the loss summed over the batch's tokens, fairseq's sample size, and the sums to log.

        In validation the loss is the cross-entropy alone, so that runs with and without a teacher are comparable.
        """
        prepared = self.prepare(model, sample) if self.training else sample
        batch = self.read(model, prepared, is_reference=prepared is sample)
        if self.training and not self.progress.is_repeated_batch:
            self.update_state(batch.without_tokens() if self.progress.is_dummy_batch else batch)
        total = SummedLoss(self.cfg.kd_chunk_tokens)
        for view in self.passes(batch) if self.training else islice(self.passes(batch), 1):
            weights = self.loss_weights(view) if self.training else {}
            for chunk in total.chunks(view):  # `add` frees the chunk's logits
                total.add(chunk, *self.objective(chunk, weights))
        loss, sums = total.result()
        terms = self.batch_losses(batch)
        sums |= {name: term.detach() for name, term in terms.items()}
        if self.training and terms:
            weights = self.loss_weights(batch)
            loss = loss + sum(weights[name] * term for name, term in terms.items() if name in weights)
        if "saved_with_the_model" in self._parameters:  # a wrapper for several workers waits for its gradient
            loss = loss + 0 * self.saved_with_the_model.sum()
        sample_size = prepared["target"].size(0) if self.cfg.sentence_avg else prepared["ntokens"]
        logging_output = {
            "loss": loss.detach(),
            "ntokens": prepared["ntokens"],
            "nsentences": prepared["target"].size(0),
            "sample_size": sample_size,
            **sums,
        }
        return loss, sample_size, logging_output

    def read(self, model: BaseFairseqModel, sample: dict, is_reference: bool = True) -> Batch:
        """Run the student on `sample` and return its batch; the teacher's models run when they are first used."""
        if not (is_reference or self.needs is None or self.needs.at_new_prefixes):
            raise UndeclaredNeedError(
                "the method changes the batch in `prepare`; declare needs = ...(at_new_prefixes=True)"
            )
        target = model.get_targets(sample, None)
        token_index = target_token_index(target, self.padding_idx, self.cfg.ignore_prefix_size)
        net_input = sample["net_input"]
        teacher = None
        if self.teacher is not None and self.needs is not None:
            # before the student: a cache copies the sentences to the CPU, which would wait for the student to finish
            predictions = self.teacher.read(sample, token_index, like=next(model.parameters()))
            teacher = DeclaredPredictions(predictions, self.needs)
        return Batch(
            gold=target.flatten()[token_index],
            token_index=token_index,
            sentence_ids=sample["id"],
            source_tokens=net_input["src_tokens"],
            prev_output_tokens=net_input["prev_output_tokens"],
            student=run_model(model, net_input, token_index),
            teacher=teacher,
            is_reference=is_reference,
            chunk_tokens=self.cfg.kd_chunk_tokens,
        )

    def objective(self, chunk: Chunk, weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a chunk's tokens, [tokens], and the values to log, [tokens] each."""
        # before the cross-entropy, which reuses the student's log-probabilities if a term has computed all of them
        terms = self.token_losses(chunk)
        logged = {}
        if not chunk.batch.auxiliary:
            cross_entropy, logged["nll_loss"] = chunk.student.cross_entropy(chunk.gold, self.cfg.label_smoothing)
            terms = {"ce_loss": cross_entropy, **terms}
        known = chunk.teacher.known if chunk.teacher_was_used else None
        if known is not None:
            terms = {name: term if name == "ce_loss" else term.where(known, 0.0) for name, term in terms.items()}
            logged |= coverage(known)
        logged |= terms
        if not chunk.batch.auxiliary:
            if self.training and chunk.teacher_was_used and self.must_beat_chance(chunk.batch):
                self.chance_check.observe(chunk.teacher, chunk.gold)
            if self.cfg.report_accuracy or not self.training:
                logged |= self.measures(chunk)
        if not self.training:
            return terms["ce_loss"], logged
        loss = weighted_sum(terms, weights, chunk.rows)
        # a token without a prediction has nothing to learn but the reference
        return loss if known is None else loss.where(known, terms.get("ce_loss", 0.0)), logged

    def must_beat_chance(self, batch: Batch) -> bool:
        """Whether the batch has the references as targets and the predictions of a trained source for them."""
        if self.teacher is None or not isinstance(batch.teacher, DeclaredPredictions):
            return False  # the predictions do not come from the source
        return self.teacher.is_trained and batch.is_reference

    def measures(self, chunk: Chunk) -> dict[str, Tensor]:
        """Return counts, [tokens] each; those named in `percentages` are logged."""
        first_choice = chunk.student_logits.argmax(-1)
        counts = {"n_counted": torch.ones_like(first_choice)}
        if not self.training and chunk.batch.teacher is not None:
            counts["n_agree"] = first_choice == chunk.teacher.first_choice
            if (known := chunk.teacher.known) is not None:
                counts |= {"n_agree": counts["n_agree"] & known, **coverage(known)}
        if self.cfg.report_accuracy:
            counts["n_correct"] = first_choice == chunk.gold
        return counts

    # -- reports and checkpoints --------------------------------------------------------------------------------------

    @property
    def signature(self) -> str:
        """One line with all that the results depend on: method, settings, teacher and versions."""
        fingerprint = self.teacher.fingerprint if self.teacher is not None else None
        return signature(self.cfg, fingerprint, self.learns_from_validation)

    @property
    def has_extra_state(self) -> bool:
        """Whether the method has a state besides parameters."""
        return type(self).get_extra_state is not nn.Module.get_extra_state

    def state_dict(self, *args, **kwargs):
        """Return the parameters and the extra state, with the method."""
        state = super().state_dict(*args, **kwargs)
        if self.has_extra_state:
            state[EXTRA] = {**state[EXTRA], MADE_BY: {"method": self.cfg._name}}
        return state

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load this method's state from a checkpoint.

        The fresh state stays if the checkpoint has none, as after plain training, or if the training begins anew, as
        with --reset-optimizer. Raises UserError if parameters have other shapes.
        """
        if getattr(self.task, "begins_anew", False):
            return None
        state = dict(state_dict or {})
        extra = dict(state.get(EXTRA, {}))
        made_by = extra.pop(MADE_BY, {"method": self.cfg._name})
        if made_by["method"] != self.cfg._name or state.keys().isdisjoint(self.state_dict()):
            logger.warning(f"the checkpoint has no state for {self.cfg._name}; starting with a fresh one")
            return None
        if self.has_extra_state:
            state[EXTRA] = extra
        try:
            return super().load_state_dict(state, *args, **kwargs)
        except RuntimeError:
            raise UserError(
                f"the checkpoint's parameters of {self.cfg._name} do not fit, because it was trained with other "
                "options; resume with those, or begin anew from it with --finetune-from-model"
            ) from None

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """Log the averages over all workers, see `log_averages`."""
        log_averages(logging_outputs, cls.percentages)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Return True: every logged value is a sum."""
        return True


def coverage(known: Tensor) -> dict[str, Tensor]:
    """Return what to count, [tokens] each: tokens without a prediction of the teacher, and all that needed one."""
    return {"n_unknown": ~known, "n_asked": torch.ones_like(known)}


def weighted_sum(terms: dict[str, Tensor], weights: Weights, rows: slice) -> Tensor:
    """Return the weighted sum of the terms of the tokens in `rows`, [tokens]."""
    parts = []
    for name, term in terms.items():
        weight = weights[name]
        parts.append(term * (weight[rows] if isinstance(weight, Tensor) else weight))
    return sum(parts[1:], start=parts[0])
