"""TIE-KD (Zhang et al., ACL 2023): learn the teacher's ranking, and distil on the student's own predictions too."""

from dataclasses import dataclass, replace

import torch
from fairseq.criterions import register_criterion
from torch import Tensor

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, InterpolationConfig
from nmt_kd.criterions.config import DivergenceConfig, divergence_of
from nmt_kd.engine.predictions import TopWords
from nmt_kd.losses.ranking import hierarchical_ranking_loss
from nmt_kd.options import AT_LEAST_0, AT_LEAST_1, option, require


@dataclass
class TIEKDConfig(DivergenceConfig, InterpolationConfig):
    ranking_top_k: int = option(
        5, "number of top words of each model that the ranking loss compares; 0 turns the ranking loss off", AT_LEAST_0
    )
    kd_iterations: int = option(
        3,
        "number of decoder passes: the first on the gold prefixes, each other on the student's predictions in the "
        "previous pass; 1 or more",
        AT_LEAST_1,
    )


@register_criterion("tie_kd", dataclass=TIEKDConfig)
class TIEKD(DistillationCriterion):
    """`(1 - alpha) CE + alpha / N sum_i (KL_i + ranking_i)`; the cross-entropy is that of the first iteration.

    `kd_loss` and `ranking_loss` are logged as means over the iterations; validation runs only the first.
    """

    settings_for_a_cache = "--kd-iterations 1"

    def check_settings(self):
        super().check_settings()
        size = len(self.task.target_dictionary)
        require(self.cfg.ranking_top_k <= size, "--ranking-top-k", self.cfg.ranking_top_k, f"at most {size}, all words")

    @property
    def iterations(self) -> int:
        """The number of decoder passes over a batch."""
        return self.cfg.kd_iterations if self.training else 1

    @property
    def needs(self):
        return TopWords(max(1, self.cfg.ranking_top_k), at_new_prefixes=self.cfg.kd_iterations > 1)

    def token_losses(self, chunk: Chunk):
        terms = {"kd_loss": chunk.teacher.divergence(chunk.student, kind=divergence_of(self.cfg))}
        if self.cfg.ranking_top_k:
            terms["ranking_loss"] = self.ranking_loss(chunk)
        return {name: term / self.iterations for name, term in terms.items()}

    def ranking_loss(self, chunk: Chunk) -> Tensor:
        """Return the hierarchical ranking loss, [tokens]."""
        top_k = self.cfg.ranking_top_k
        (t, q_t), s = chunk.teacher.top(top_k), self.student_top(chunk)[:, :top_k]
        p_s, p_t = chunk.student.log_p_of(torch.cat([s, t], dim=-1)).exp().chunk(2, dim=-1)
        return hierarchical_ranking_loss(p_s, chunk.teacher.log_q_of(s), p_t, q_t)

    def loss_weights(self, batch: Batch):
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha, "ranking_loss": self.cfg.kd_alpha}

    def passes(self, batch: Batch):
        for iterations_left in reversed(range(self.iterations)):
            if not iterations_left:
                yield batch
                return
            predictions = torch.empty_like(batch.gold)
            yield replace(batch, notes={"predictions": predictions})
            batch = replace(batch.decode(self.decoder_inputs(batch, predictions)), auxiliary=True)

    def objective(self, chunk: Chunk, weights):
        if "predictions" in chunk.batch.notes:
            chunk.note("predictions", self.first_choices(chunk))
        return super().objective(chunk, weights)

    def student_top(self, chunk: Chunk) -> Tensor:
        """Return the student's top words for the ranking loss, and at least two for `first_choices`, [tokens, k]."""
        return chunk.student.top(max(2, self.cfg.ranking_top_k))

    def first_choices(self, chunk: Chunk) -> Tensor:
        """Return the student's most probable words other than padding, [tokens]."""
        first, second = self.student_top(chunk)[:, :2].unbind(-1)
        return torch.where(first == self.padding_idx, second, first)

    def decoder_inputs(self, batch: Batch, predictions: Tensor) -> Tensor:
        """Return decoder inputs [batch, length]: each sentence's first symbol, then its predictions, from [tokens].

        Padding stays padding, and tokens of an ignored prefix stay gold.
        """
        inputs = batch.prev_output_tokens
        # the symbol after each position: the prediction, or the gold token if there is none
        following = inputs.roll(-1, 1).flatten().index_copy(0, batch.token_index, predictions).view_as(inputs)[:, :-1]
        is_padding = inputs[:, 1:] == self.padding_idx
        return torch.cat([inputs[:, :1], torch.where(is_padding, self.padding_idx, following)], dim=1)
