"""Logits, reduced to the few numbers per token that the usual losses need, with one gradient in closed form.

With logits z, log Z = logsumexp(z) and another model's distribution q, these numbers and their gradients are

    log Z                     p = exp(z - log Z)
    sum_v z_v                 1
    sum_v q_v (z'_v - z_v)    -q, where z' are the logits of q
    z_v of single words v     1 at v

The label-smoothed cross-entropy and KL(q || p) are linear in them. So autograd works on tensors [tokens], and the
gradient of the logits, the largest tensor of a training step, is written once. On a GPU, `torch.compile` makes a few
kernels of the same formulas, which compute p and q again where they need them instead of reading them.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy, smoothed
from nmt_kd.losses.precision import accumulation_dtype, at_least_float32, log_probabilities
from nmt_kd.losses.top_k import top_k_indices

logger = logging.getLogger(__name__)

FEW_WORDS = 16  # up to this many, the fused kernel compares each word with every column; scatter_add is a second kernel
NUMBERS = ("log_normaliser", "total")  # the cached properties of `Logits` that are leaves


class Logits:
    """Logits of some tokens, [tokens, V], from which losses are computed; all results are at least float32.

    If `trained`, `values` and the numbers below are leaves: differentiate a loss with respect to all `leaves`, and pass
    the gradients to `gradient`.
    """

    def __init__(self, values: Tensor, trained: bool = False):
        self.values = values.detach().requires_grad_(trained)
        self._trained = trained
        self._top: Tensor | None = None
        self._gaps: list[tuple[Logits, Tensor]] = []
        self._picked: list[tuple[Tensor, Tensor]] = []

    @staticmethod
    def of(values: Tensor, trained: bool = False) -> "Logits":
        """Return `CompiledLogits` on a GPU where torch.compile works, and `Logits` elsewhere."""
        return (CompiledLogits if values.is_cuda and can_compile() else Logits)(values, trained)

    # -- numbers of each token ----------------------------------------------------------------------------------------

    @cached_property
    def log_normaliser(self) -> Tensor:
        """`log Z`, [tokens]."""
        return self._leaf(self._log_normaliser())

    @cached_property
    def total(self) -> Tensor:
        """`sum_v z_v`, [tokens]."""
        return self._leaf(self._total())

    def of_words(self, words: Tensor) -> Tensor:
        """Return the logits of some words, both [tokens, n]."""
        picked = self._leaf(at_least_float32(self.values.detach().gather(-1, words)))
        self._picked.append((words, picked))
        return picked

    def gap_to(self, teacher: "Logits") -> Tensor:
        """Return `sum_v q_v (z'_v - z_v)`, [tokens], where z' are the `teacher`'s logits and q its probabilities."""
        gap = self._leaf(self._gap_to(teacher))
        self._gaps.append((teacher, gap))
        return gap

    def top(self, top_k: int) -> Tensor:
        """Return the words with the largest logits, [tokens, top_k], largest first."""
        if self._top is None or self._top.size(-1) < top_k:
            self._top = top_k_indices(self.values, top_k)
        return self._top[:, :top_k]

    # -- what losses use ----------------------------------------------------------------------------------------------

    def log_p_of(self, words: Tensor) -> Tensor:
        """Return the log-probabilities of some words, both [tokens, n]."""
        return self.of_words(words) - self.log_normaliser.unsqueeze(-1)

    @cached_property
    def log_p(self) -> Tensor:
        """All log-probabilities, [tokens, V], for losses without a closed form here; autograd differentiates them."""
        return log_probabilities(self.values)

    def cross_entropy(self, gold: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        """Return `label_smoothed_cross_entropy` and the negative log-likelihood, both [tokens]."""
        if "log_p" in vars(self):  # computed for another loss, whose gradient has a value for each word anyway
            return label_smoothed_cross_entropy(self.log_p, gold, label_smoothing)
        nll = -self.log_p_of(gold.unsqueeze(-1)).squeeze(-1)
        if label_smoothing == 0:
            return nll, nll
        words = self.values.size(-1)
        return smoothed(nll, words * self.log_normaliser - self.total, label_smoothing, words), nll

    def kl_divergence_from(self, teacher: "Logits") -> Tensor:
        """Return `KL(q || p) = sum_v q_v (z'_v - z_v) - log Z' + log Z`, [tokens], with the `teacher`'s q."""
        return self.gap_to(teacher) - teacher.log_normaliser.detach() + self.log_normaliser

    # -- the gradient -------------------------------------------------------------------------------------------------

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors from which losses have been computed; none if the logits are not trained."""
        if not self._trained:
            return []
        numbers = [vars(self)[name] for name in NUMBERS if name in vars(self)]
        return [self.values, *numbers, *(gap for _, gap in self._gaps), *(picked for _, picked in self._picked)]

    def gradient(self, of: Mapping[Tensor, Tensor | None]) -> Tensor | None:
        """Return the gradient of the logits, [tokens, V]; `of` has the gradients of all leaves, and None means zeros.

        It has the precision of the logits. Call this once, last: it may overwrite intermediate results.
        """
        of_normaliser, of_total = (of[vars(self)[name]] if name in vars(self) else None for name in NUMBERS)
        gaps = [(teacher, -value) for teacher, gap in self._gaps if (value := of[gap]) is not None]
        picked = [(words, value) for words, leaf in self._picked if (value := of[leaf]) is not None]
        direct = of[self.values]
        if of_normaliser is None and of_total is None and not gaps and not picked:
            return direct
        if of_normaliser is None:
            of_normaliser = torch.zeros_like(self.log_normaliser)
        words, of_words = (torch.cat(parts, dim=-1) for parts in zip(*picked, strict=True)) if picked else (None, None)
        dense = self._gradient(of_normaliser, of_total, gaps, words, of_words)
        return dense if direct is None else dense + direct

    # -- how it is computed -------------------------------------------------------------------------------------------

    @cached_property
    def probabilities(self) -> Tensor:
        """p, [tokens, V], without gradients."""
        return self.values.detach().softmax(-1, dtype=accumulation_dtype(self.values))

    def _log_normaliser(self) -> Tensor:
        # log Z = z_v - log p_v for any word v, most exactly for the most probable one; faster than logsumexp, because
        # the gradient needs p anyway
        return self.values.detach().amax(-1) - self.probabilities.amax(-1).log()

    def _total(self) -> Tensor:
        return self.values.detach().sum(-1, dtype=accumulation_dtype(self.values))

    def _gap_to(self, teacher: "Logits") -> Tensor:
        return weighted_gap(teacher.probabilities, teacher.values.detach(), self.values.detach())

    def _gradient(self, of_normaliser, of_total, gaps, words, of_words) -> Tensor:
        gradient = vars(self).pop("probabilities").mul_(of_normaliser.unsqueeze(-1))
        for teacher, of_gap in gaps:
            gradient.addcmul_(teacher.probabilities, of_gap.unsqueeze(-1))
        if of_total is not None:
            gradient += of_total.unsqueeze(-1)
        if words is not None:
            gradient.scatter_add_(-1, words, of_words)
        return gradient.to(self.values.dtype)

    def _leaf(self, number: Tensor) -> Tensor:
        return number.requires_grad_(self._trained)


class CompiledLogits(Logits):
    """The same, with kernels by torch.compile, which read the logits and store nothing as large."""

    @cached_property
    def _log_normaliser_and_total(self) -> tuple[Tensor, Tensor]:
        return compiled(_log_normaliser_and_total)(self.values.detach())

    def _log_normaliser(self) -> Tensor:
        return self._log_normaliser_and_total[0]

    def _total(self) -> Tensor:
        return self._log_normaliser_and_total[1]

    def _gap_to(self, teacher: Logits) -> Tensor:
        return compiled(_gap)(teacher.values.detach(), teacher.log_normaliser.detach(), self.values.detach())

    def _gradient(self, of_normaliser, of_total, gaps, words, of_words) -> Tensor:
        teachers = [(teacher.values.detach(), teacher.log_normaliser.detach(), of_gap) for teacher, of_gap in gaps]
        of_total = torch.zeros_like(of_normaliser) if of_total is None else of_total
        normaliser = self.log_normaliser.detach()
        return compiled(_gradient)(self.values.detach(), normaliser, of_normaliser, of_total, teachers, words, of_words)


def weighted_gap(q: Tensor, teacher: Tensor, student: Tensor) -> Tensor:
    """Return `sum_v q_v (t_v - s_v)`, [tokens], of tensors [tokens, V]."""
    return (at_least_float32(teacher) - student).mul_(q).sum(-1)


# ---------------------------------------------------------------------------------------------------------------------
# For torch.compile
# ---------------------------------------------------------------------------------------------------------------------


def _log_normaliser_and_total(z: Tensor) -> tuple[Tensor, Tensor]:
    return at_least_float32(z).logsumexp(-1), at_least_float32(z).sum(-1)


def _softmax(z: Tensor, log_normaliser: Tensor) -> Tensor:
    return (at_least_float32(z) - log_normaliser.unsqueeze(-1)).exp()


def _gap(teacher: Tensor, log_normaliser: Tensor, student: Tensor) -> Tensor:
    return (_softmax(teacher, log_normaliser) * (at_least_float32(teacher) - at_least_float32(student))).sum(-1)


def _gradient(z, log_normaliser, of_normaliser, of_total, teachers, words, of_words) -> Tensor:
    gradient = _softmax(z, log_normaliser) * of_normaliser.unsqueeze(-1) + of_total.unsqueeze(-1)
    for teacher, its_log_normaliser, of_gap in teachers:
        gradient = gradient + _softmax(teacher, its_log_normaliser) * of_gap.unsqueeze(-1)
    if words is not None and words.size(-1) > FEW_WORDS:
        gradient = gradient.scatter_add(-1, words, of_words)
    elif words is not None:
        column = torch.arange(z.size(-1), device=z.device)
        for word, of_word in zip(words.unbind(-1), of_words.unbind(-1), strict=True):
            gradient = gradient + torch.where(column == word.unsqueeze(-1), of_word.unsqueeze(-1), 0.0)
    return gradient.to(z.dtype)


@functools.cache
def compiled(function: Callable) -> Callable:
    """Return the function compiled for tensors of any number of tokens."""
    return torch.compile(function, dynamic=True)


@functools.cache
def can_compile() -> bool:
    """Whether torch.compile works on this machine's GPU and TORCH_COMPILE_DISABLE is not set; if not, say why, once."""
    if torch._dynamo.config.disable:
        return False
    z, number = torch.zeros(2, 64, dtype=torch.float16, device="cuda"), torch.zeros(2, device="cuda")
    word, of_word = torch.zeros(2, 1, dtype=torch.long, device="cuda"), number.unsqueeze(-1)
    try:
        compiled(_log_normaliser_and_total)(z)
        compiled(_gap)(z, number, z)
        compiled(_gradient)(z, number, number, number, [(z, number, number)], word, of_word)
    except Exception as error:  # whatever is missing: Triton, a C compiler, a supported GPU
        reason = str(error).strip().splitlines() or [type(error).__name__]
        logger.warning(f"torch.compile does not work here, so the losses are slower: {reason[0]}")
        return False
    return True
