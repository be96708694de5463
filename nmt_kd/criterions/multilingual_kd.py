"""Multilingual distillation (Tan et al., ICLR 2019): one teacher for each language pair of a multilingual student."""

import logging
from dataclasses import dataclass
from typing import ClassVar, Optional

from fairseq.criterions import register_criterion
from fairseq.tasks import FairseqTask

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, InterpolationConfig
from nmt_kd.criterions.pairs import LanguagePairs, TeacherOfEachPair
from nmt_kd.criterions.validations import after_validation
from nmt_kd.engine.chance import ChanceCheck
from nmt_kd.engine.predictions import TopWords
from nmt_kd.errors import UserError
from nmt_kd.losses.divergence import truncated_cross_entropy
from nmt_kd.losses.schedule import lead_factor
from nmt_kd.options import ABOVE_0, AT_LEAST_1, SHARE, one_of, option, require

logger = logging.getLogger(__name__)

MARGINS = {"threshold": 1.0, "adaptive": -2.0}  # as in the authors' code, there in BLEU


@dataclass
class MultilingualKDConfig(InterpolationConfig):
    kd_alpha: float = option(
        0.9, "share of the distillation term: loss = (1 - alpha) CE + alpha KD; from 0 to 1", SHARE
    )
    kd_top_k: int = option(4, "number of the teacher's most probable words to learn from; 1 or more", AT_LEAST_1)
    kd_temperature: float = option(
        0.6,
        "temperature that divides both models' logits, above 0; the term is multiplied by its square",
        ABOVE_0,
    )
    stopping: str = option(
        "threshold",
        "when a language pair stops learning from its teacher: 'threshold', while its validation accuracy is "
        "--stopping-margin points above the teacher's; 'adaptive', gradually, as each point beyond that margin halves "
        "alpha; or 'none', never",
        one_of("threshold", "adaptive", "none"),
    )
    stopping_margin: Optional[float] = option(
        None,
        "lead of the student over a teacher, in points of validation accuracy, at which --stopping takes effect "
        "(default: 1 for threshold, and -2 for adaptive)",
    )


@register_criterion("multilingual_kd", dataclass=MultilingualKDConfig)
class MultilingualKD(DistillationCriterion):
    """`(1 - alpha) CE + alpha T^2 CE(softmax(top-k z_t / T), softmax(z_s / T))`, with a teacher for each language pair.

    `--teacher-path de-en=a.pt,fr-en=b.pt` and `--teacher-cache` name the teachers of the task multilingual_translation;
    the task translation has one pair. Defaults and stopping rules are those of the authors' code. These rules compare
    BLEU of the validation set; fairseq's multilingual task has none, and a cache cannot translate, so the accuracy of
    the most probable word under teacher forcing takes its place. It is measured for both models in every validation.
    """

    learns_from_validation = True
    percentages: ClassVar[dict[str, str]] = DistillationCriterion.percentages | {"n_ahead": "ahead_of_teacher"}

    def __init__(self, cfg: MultilingualKDConfig, task: FairseqTask):
        super().__init__(cfg, task)
        self.chance_checks = {pair: ChanceCheck() for pair in self.pairs.tasks}
        self.leads: dict[str, float] = {}  # by pair, in points, from the latest validation
        self.has_validated = False  # since the last update
        after_validation(task, self.compare)
        if cfg.stopping != "none" and cfg.disable_validation:
            logger.warning(f"--stopping {cfg.stopping} has no effect, since --disable-validation is given")

    @property
    def needs(self):
        return TopWords(self.cfg.kd_top_k)

    def open_teacher(self, task: FairseqTask) -> TeacherOfEachPair:
        self.pairs = LanguagePairs.of(task)
        paths = self.pairs.values("--teacher-path", self.cfg.teacher_path)
        caches = self.pairs.values("--teacher-cache", self.cfg.teacher_cache)
        teachers = {}
        for pair, pair_task in self.pairs.tasks.items():
            size = len(pair_task.target_dictionary)
            require(self.cfg.kd_top_k <= size, "--kd-top-k", self.cfg.kd_top_k, f"at most {size}, all words of {pair}")
            if self.pairs.is_multilingual and pair not in {**paths, **caches}:
                raise UserError(
                    f"no teacher given for {pair}; add {pair}=CHECKPOINT to --teacher-path, or {pair}=FOLDER to "
                    "--teacher-cache"
                )
            teachers[pair] = self.open_checkpoint_or_cache(paths.get(pair, ""), caches.get(pair, ""), pair_task)
        return TeacherOfEachPair(self.pairs, teachers)

    def forward(self, model, sample, reduce=True):
        self.chance_check = self.chance_checks[self.pairs.current]
        try:
            return super().forward(model, sample, reduce)
        except UserError as error:
            if not self.pairs.is_multilingual:
                raise
            raise UserError(f"{self.pairs.current}: {error}") from None

    def compare(self, validation: dict):
        """Take the averages of a validation subset into account; only the first subset of a validation counts."""
        if self.has_validated:
            return
        self.has_validated = True
        for pair in self.pairs.tasks:
            lead = validation.get(f"{self.pairs.log_prefix(pair)}ahead_of_teacher")
            if lead is None:
                continue
            self.leads[pair] = float(lead)
            logger.info(
                f"{pair}: the student's validation accuracy is {abs(lead):.2f} points "
                f"{'above' if lead >= 0 else 'below'} its teacher's; kd_alpha is {self.alpha(pair):.3f} from now on"
            )

    def update_state(self, batch: Batch):
        self.has_validated = False

    def alpha(self, pair: str) -> float:
        """Return the current share of the distillation term of a language pair."""
        if self.cfg.stopping == "none" or pair not in self.leads:
            return self.cfg.kd_alpha
        margin = MARGINS[self.cfg.stopping] if self.cfg.stopping_margin is None else self.cfg.stopping_margin
        return self.cfg.kd_alpha * lead_factor(self.leads[pair], margin, self.cfg.stopping == "adaptive")

    def token_losses(self, chunk: Chunk):
        if self.training and self.alpha(self.pairs.current) == 0 < self.cfg.kd_alpha:
            return {}  # the pair has stopped, and its teacher does not run
        words, log_q = chunk.teacher.top(self.cfg.kd_top_k)
        return {"kd_loss": truncated_cross_entropy(chunk.student_log_p, words, log_q, self.cfg.kd_temperature)}

    def loss_weights(self, batch: Batch):
        alpha = self.alpha(self.pairs.current)
        return {"ce_loss": 1 - alpha, "kd_loss": alpha}

    def measures(self, chunk: Chunk):
        counts = super().measures(chunk)
        if not self.training:
            student, teacher = chunk.student_logits.argmax(-1), chunk.teacher.first_choice
            ahead = (student == chunk.gold).int() - (teacher == chunk.gold).int()
            counts["n_ahead"] = ahead if chunk.teacher.known is None else ahead * chunk.teacher.known
        return counts

    def get_extra_state(self):
        return {"leads": self.leads}

    def set_extra_state(self, state):
        self.leads = {pair: lead for pair, lead in state["leads"].items() if pair in self.pairs.tasks}
