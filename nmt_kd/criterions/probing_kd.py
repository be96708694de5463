"""Probes of word-level distillation: distil only a part of the teacher's knowledge (TIE-KD paper, section 3)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from fairseq.criterions import register_criterion
from torch import Tensor

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, InterpolationConfig
from nmt_kd.engine.predictions import FullDistribution, Need, TopWords
from nmt_kd.losses.divergence import kl_divergence, top_k_cross_entropy, without_top_1
from nmt_kd.losses.selection import uniform_hash
from nmt_kd.options import ABOVE_0_TO_1, AT_LEAST_1, SHARE, Allowed, one_of, option, require


@dataclass
class ProbingKDConfig(InterpolationConfig):
    probing_loss: str = option(
        "top-k",
        "what the student learns from the teacher: 'top-k', the probabilities of its top words, not renormalised; "
        "'no-top-1', all but its first choice, whose mass moves to the gold token; or 'all'",
        one_of("top-k", "no-top-1", "all"),
    )
    probing_top_k: int = option(
        1,
        "number of the teacher's words that --probing-loss top-k keeps; 1 removes all correlation between words",
        AT_LEAST_1,
    )
    probing_above: float = option(
        0.0,
        "leave out the distillation term if the teacher's highest probability is at most this",
        Allowed("from 0 to below 1", lambda value: 0 <= value < 1),
    )
    probing_up_to: float = option(
        1.0,
        "leave out the distillation term if the teacher's highest probability is above this",
        ABOVE_0_TO_1,
    )
    probing_targets: str = option(
        "all",
        "for a corpus that the teacher has decoded, the loss of tokens that are or are not the teacher's first choice: "
        "CE only on those that are ('top-1'), only on those that are not ('not-top-1'), or only on a share of those "
        "that are ('share-of-top-1'); CE on those that are, and half CE, half the distillation term on the others "
        "('top-1-information'); or (1 - alpha) CE + alpha KD on all tokens ('all')",
        one_of("all", "top-1", "not-top-1", "share-of-top-1", "top-1-information"),
    )
    probing_share: float = option(
        0.5, "the share of --probing-targets share-of-top-1, chosen by sentence and position only; from 0 to 1", SHARE
    )


def _of_top_k(chunk: Chunk, words: Tensor, log_q: Tensor) -> Tensor:
    return top_k_cross_entropy(chunk.student.log_p_of(words), log_q)


PROBES: dict[str, Callable[[Chunk, ProbingKDConfig], Tensor]] = {
    "all": lambda chunk, cfg: chunk.teacher.divergence(chunk.student),
    "top-k": lambda chunk, cfg: _of_top_k(chunk, *chunk.teacher.top(cfg.probing_top_k)),
    "no-top-1": lambda chunk, cfg: kl_divergence(chunk.student_log_p, without_top_1(chunk.teacher_log_q, chunk.gold)),
}

NEEDS: dict[str, Callable[[ProbingKDConfig], Need]] = {
    "all": lambda cfg: TopWords(1),
    "top-k": lambda cfg: TopWords(cfg.probing_top_k),
    "no-top-1": lambda cfg: FullDistribution(),
}

# The weights of cross-entropy and distillation, [tokens] or a number, depending on whether tokens are the first choice.
TARGETS: dict[str, Callable[[Tensor, Tensor, ProbingKDConfig], tuple]] = {
    "top-1": lambda is_first, chance, cfg: (is_first.float(), 0.0),
    "not-top-1": lambda is_first, chance, cfg: ((~is_first).float(), 0.0),
    "share-of-top-1": lambda is_first, chance, cfg: ((is_first & (chance < cfg.probing_share)).float(), 0.0),
    "top-1-information": lambda is_first, chance, cfg: (torch.where(is_first, 1.0, 0.5), (~is_first) * 0.5),
}


@register_criterion("probing_kd", dataclass=ProbingKDConfig)
class ProbingKD(DistillationCriterion):
    """Word-level distillation of a part of the teacher's distribution, or on a part of the tokens."""

    settings_for_a_cache = "--probing-loss top-k"

    @property
    def needs(self):
        return NEEDS[self.cfg.probing_loss](self.cfg)

    def check_settings(self):
        super().check_settings()
        size, above = len(self.task.target_dictionary), self.cfg.probing_above
        require(self.cfg.probing_top_k <= size, "--probing-top-k", self.cfg.probing_top_k, f"at most {size}, all words")
        require(
            above < self.cfg.probing_up_to, "--probing-above", above, f"below --probing-up-to, {self.cfg.probing_up_to}"
        )

    def token_losses(self, chunk: Chunk):
        term = PROBES[self.cfg.probing_loss](chunk, self.cfg)
        confidence = chunk.teacher.confidence
        # float32 rounds probabilities to 1 and above, so an interval up to 1 has no upper bound
        inside = (confidence > self.cfg.probing_above) & (
            (confidence <= self.cfg.probing_up_to) | (self.cfg.probing_up_to == 1)
        )
        return {"kd_loss": term * inside}

    def loss_weights(self, batch: Batch):
        if self.cfg.probing_targets == "all":  # saves computing the teacher's first choices
            return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha}
        length = batch.prev_output_tokens.size(1)
        is_first = batch.teacher_first_choices == batch.gold
        chance = uniform_hash(batch.sentence_ids[batch.token_index // length], batch.token_index % length)
        ce_weight, kd_weight = TARGETS[self.cfg.probing_targets](is_first, chance, self.cfg)
        return {"ce_loss": ce_weight, "kd_loss": kd_weight}
