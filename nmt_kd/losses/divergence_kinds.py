"""The divergences that a method can choose with `--kd-divergence`, as functions of two distributions.

Each takes the log-probabilities of the student p and the teacher q, [tokens, words], over all words or with some merged
into one bucket, and returns one value per token, in nats. Gradients flow only to the student. All except adaptive KL
are f-divergences, which merging words never increases.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nmt_kd.losses.divergence import kl_divergence
from nmt_kd.losses.precision import log_probabilities
from nmt_kd.losses.top_k import top_k_indices

Divergence = Callable[[Tensor, Tensor], Tensor]

HEAD = 0.5  # adaptive KL: the most probable words up to this cumulative probability are the head
FIRST_SEARCH = 16  # number of the most probable words among which the head is sought first


def reverse_kl_divergence(student_log_p: Tensor, teacher_log_q: Tensor) -> Tensor:
    """Return `KL(p || q) = sum_v p_v (log p_v - log q_v)`, [tokens]: the student avoids what the teacher excludes."""
    return (student_log_p.exp() * (student_log_p - teacher_log_q.detach())).sum(-1)


def js_divergence(student_log_p: Tensor, teacher_log_q: Tensor) -> Tensor:
    """Return `KL(q || m) / 2 + KL(p || m) / 2` with `m = (p + q) / 2`, [tokens]: symmetric, at most log 2."""
    log_m = _mixture(teacher_log_q, student_log_p, 0.5)
    teacher_part = kl_divergence(log_m, teacher_log_q)
    return (teacher_part + (student_log_p.exp() * (student_log_p - log_m)).sum(-1)) / 2


def total_variation(student_log_p: Tensor, teacher_log_q: Tensor) -> Tensor:
    """Return `sum_v |q_v - p_v| / 2`, [tokens], from 0 to 1; the gradient is 0 where both probabilities are equal."""
    return (student_log_p.exp() - teacher_log_q.detach().exp()).abs().sum(-1) / 2


def skew_kl_divergence(student_log_p: Tensor, teacher_log_q: Tensor, skew: float) -> Tensor:
    """Return `KL(q || skew q + (1 - skew) p)`, [tokens] (DistiLLM, Ko et al., 2024); with skew 0 it is KL."""
    return kl_divergence(_mixture(teacher_log_q, student_log_p, skew), teacher_log_q)


def skew_reverse_kl_divergence(student_log_p: Tensor, teacher_log_q: Tensor, skew: float) -> Tensor:
    """Return `KL(p || skew p + (1 - skew) q)`, [tokens] (DistiLLM, Ko et al., 2024); with skew 0 it is reverse KL."""
    log_mixture = torch.logaddexp(student_log_p + _log(skew), teacher_log_q.detach() + math.log1p(-skew))
    return (student_log_p.exp() * (student_log_p - log_mixture)).sum(-1)


def adaptive_kl_divergence(student_log_p: Tensor, teacher_log_q: Tensor) -> Tensor:
    """Return `w KL(q || p) + (1 - w) KL(p || q)`, [tokens] (Wu et al., 2024), with w the head's share of the errors.

    The errors are `|p - q|`. The head is the first choice and the words after it while their cumulative probability
    under q is at most 0.5; the tail is all other words. The weights have no gradient.
    """
    errors = (student_log_p.detach().exp() - teacher_log_q.detach().exp()).abs()
    share = _of_head(errors, teacher_log_q.detach()) / errors.sum(-1).clamp(min=torch.finfo(errors.dtype).tiny)
    forward, reverse = (kind(student_log_p, teacher_log_q) for kind in (kl_divergence, reverse_kl_divergence))
    return share * forward + (1 - share) * reverse


def symmetric_kl_divergence(log_p_1: Tensor, log_p_2: Tensor) -> Tensor:
    """Return `(KL(p_1 || p_2) + KL(p_2 || p_1)) / 2`, [tokens], of two passes of one model, with gradients to both."""
    return ((log_p_1.exp() - log_p_2.exp()) * (log_p_1 - log_p_2)).sum(-1) / 2


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "kl": kl_divergence,
    "reverse-kl": reverse_kl_divergence,
    "js": js_divergence,
    "tvd": total_variation,
    "skew-kl": skew_kl_divergence,
    "skew-reverse-kl": skew_reverse_kl_divergence,
    "adaptive-kl": adaptive_kl_divergence,
}
SKEWED = ("skew-kl", "skew-reverse-kl")


def divergence_named(name: str, skew: float) -> Divergence:
    """Return the divergence with a name from `DIVERGENCES`; those of `SKEWED` get the `skew`."""
    return partial(DIVERGENCES[name], skew=skew) if name in SKEWED else DIVERGENCES[name]


def at_temperature(kind: Divergence, student_log_p: Tensor, teacher_log_q: Tensor, temperature: float) -> Tensor:
    """Return the divergence of both distributions at `temperature`, times its square, [tokens]."""
    if temperature == 1:
        return kind(student_log_p, teacher_log_q)
    log_p, log_q = (log_probabilities(log, temperature) for log in (student_log_p, teacher_log_q.detach()))
    return kind(log_p, log_q) * temperature**2


def _mixture(teacher_log_q: Tensor, student_log_p: Tensor, share: float) -> Tensor:
    """Return `log(share q + (1 - share) p)`, exactly `log p` if the share is 0."""
    return torch.logaddexp(teacher_log_q.detach() + _log(share), student_log_p + math.log1p(-share))


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


def _of_head(errors: Tensor, log_q: Tensor) -> Tensor:
    """Return the sum of the errors of the head's words, [tokens]; both arguments are [tokens, words].

    Sorting whole vocabularies would dominate the cost, so the search begins with a few of the most probable words.
    """
    words = log_q.size(-1)
    searched = min(FIRST_SEARCH, words)
    while True:
        top = top_k_indices(log_q, searched)
        cumulative = log_q.gather(-1, top).exp().cumsum(-1)
        if searched == words or not (cumulative[:, -1] <= HEAD).any():
            break
        searched = min(4 * searched, words)
    in_head = cumulative <= HEAD
    in_head[:, :1] = True
    return (errors.gather(-1, top) * in_head).sum(-1)
