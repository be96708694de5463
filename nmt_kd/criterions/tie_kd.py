"""TIE-KD (Zhang et al., ACL 2023): rank as the teacher does, and distil on the student's own predictions too."""

from dataclasses import dataclass

import torch
from fairseq.criterions import register_criterion
from torch import Tensor

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, InterpolationConfig
from nmt_kd.losses.ranking import hierarchical_ranking_loss
from nmt_kd.losses.top_k import top_k_indices
from nmt_kd.options import AT_LEAST_0, AT_LEAST_1, option, require


@dataclass
class TIEKDConfig(InterpolationConfig):
    ranking_top_k: int = option(
        5, "words of each model that the ranking loss puts in order; 0 leaves the ranking loss out", AT_LEAST_0
    )
    kd_iterations: int = option(
        3,
        "times the decoders run: on the gold prefixes, then on the student's predictions of the time before; 1 or more",
        AT_LEAST_1,
    )


@register_criterion("tie_kd", dataclass=TIEKDConfig)
class TIEKD(DistillationCriterion):
    """`(1 - alpha) CE + alpha / N sum_i (KL_i + ranking_i)`; the cross-entropy is that of the first iteration.

    What is logged as `kd_loss` and `ranking_loss` are means over the iterations; in validation, of the first alone.
    """

    def check_settings(self):
        super().check_settings()
        size = len(self.task.target_dictionary)
        require(self.cfg.ranking_top_k <= size, "--ranking-top-k", self.cfg.ranking_top_k, f"at most {size}, all words")

    @property
    def iterations(self) -> int:
        """How often the decoders run on a batch."""
        return self.cfg.kd_iterations if self.training else 1

    def token_losses(self, chunk: Chunk):
        terms = {"kd_loss": chunk.teacher.divergence(chunk.student_log_p)}
        if self.cfg.ranking_top_k:
            terms["ranking_loss"] = hierarchical_ranking_loss(
                chunk.student_log_p, chunk.teacher, self.cfg.ranking_top_k
            )
        return {name: term / self.iterations for name, term in terms.items()}

    @property
    def teacher_words(self):
        return max(1, self.cfg.ranking_top_k) if self.cfg.kd_iterations == 1 else None

    def loss_weights(self, batch: Batch):
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha, "ranking_loss": self.cfg.kd_alpha}

    def passes(self, batch: Batch):
        if self.iterations == 1:
            yield from super().passes(batch)
            return
        weights = self.loss_weights(batch)
        for iteration in range(self.iterations):
            predictions = torch.empty_like(batch.gold)

            def objective(logits, rows, batch=batch, iteration=iteration, predictions=predictions):
                predictions[rows] = self.first_choices(logits)
                if iteration == 0:
                    return self.objective(batch, weights, logits, rows)
                terms = self.token_losses(Chunk(batch, rows, logits))
                return self.weighted_sum(terms, weights, rows), terms

            yield batch.student.projection, objective
            if iteration + 1 < self.iterations:
                batch = batch.decode_again(self.decoder_inputs(batch, predictions))

    def first_choices(self, logits: Tensor) -> Tensor:
        """The most probable symbol but padding, [tokens], of logits [tokens, V]."""
        first, second = top_k_indices(logits, 2).unbind(-1)
        return torch.where(first == self.padding_idx, second, first)

    def decoder_inputs(self, batch: Batch, predictions: Tensor) -> Tensor:
        """The predictions [tokens] shifted right behind each sentence's first symbol, [batch, length].

        Padding stays padding, and so do symbols whose predecessor is not among the tokens that count.
        """
        inputs = batch.prev_output_tokens
        # what follows each position: a prediction, or where there is none what followed before
        following = inputs.roll(-1, 1).flatten().index_copy(0, batch.token_index, predictions).view_as(inputs)[:, :-1]
        is_padding = inputs[:, 1:] == self.padding_idx
        return torch.cat([inputs[:, :1], torch.where(is_padding, self.padding_idx, following)], dim=1)
