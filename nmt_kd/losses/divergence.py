"""Divergences of the student's distribution from the teacher's, over the vocabulary or a part of it."""

import math

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nmt_kd.losses.precision import at_least_float32, log_probabilities
from nmt_kd.losses.top_k import top_k_indices

LOG_OF_NOTHING = -100.0  # stands for log 0; a probability of 1e-44
SMALLEST_REST = 1e-6  # less is below the float32 rounding error of 1 - sum


def kl_divergence(student_log_p: Tensor, teacher_log_q: Tensor, temperature: float = 1.0) -> Tensor:
    """Return `KL(q || p) = sum_v q_v (log q_v - log p_v)`, [tokens], in nats (Kim & Rush, 2016, eq. 4).

    Both arguments are log-probabilities [tokens, V]. Both distributions are taken at `temperature`, and the divergence
    is multiplied by its square to preserve the size of the gradients (Hinton et al., 2015). The result is exact: there
    is no epsilon inside the logarithms. Gradients flow only to the student.
    """
    log_p, log_q = student_log_p, teacher_log_q.detach()
    if temperature != 1:
        log_p, log_q = log_probabilities(log_p, temperature), log_probabilities(log_q, temperature)
    # In this order and in place, this writes two fewer tensors of [tokens, V], which dominate the cost on a CPU.
    divergence = -(log_p - log_q).mul_(log_q.exp()).sum(-1)
    return divergence if temperature == 1 else divergence * temperature**2


def coarse_divergence(log_p: Tensor, log_q: Tensor, log_rest: Tensor) -> Tensor:
    """Return `kl_divergence` with all words outside the teacher's top k merged into one bucket, [tokens].

    `sum_{v in top-k} q_v (log q_v - log p_v) + q_rest (log q_rest - log p_rest)`, where `log_p` and `log_q` [tokens, k]
    are the log-probabilities of the top k and `log_rest` [tokens] is the log of the teacher's remaining mass. It is at
    most the full divergence, and equal to it if k is V or if the student's probabilities outside the top k are
    proportional to the teacher's. So the student learns the total mass of the remaining words, but not how to
    distribute it.
    """
    rest = log_rest.exp()
    p_rest = (1 - log_p.exp().sum(-1)).clamp(min=SMALLEST_REST)
    rest_term = torch.where(rest > 0, rest * (log_rest.clamp(min=LOG_OF_NOTHING) - p_rest.log()), 0.0)
    return (log_q.exp() * (log_q - log_p)).sum(-1) + rest_term


def coarse_log_probabilities(log_p: Tensor, log_q: Tensor, log_rest: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return both models' log-probabilities of the teacher's top k words and of the bucket, [tokens, k + 1] each.

    If k is V, `log_rest` is None and there is no bucket. The bucket has at least the probability `SMALLEST_REST` in
    both models, so that every divergence is finite even if the teacher excludes all other words. Arguments are as in
    `coarse_divergence`.
    """
    log_q = log_q.detach().clamp(min=LOG_OF_NOTHING)
    if log_rest is not None:
        p_rest = (1 - log_p.exp().sum(-1, keepdim=True)).clamp(min=SMALLEST_REST)
        log_p = torch.cat([log_p, p_rest.log()], dim=-1)
        q_rest = log_rest.detach().unsqueeze(-1).clamp(min=math.log(SMALLEST_REST))
        log_q = torch.cat([log_q, q_rest], dim=-1)
    return log_p, log_q


def tempered_log_probabilities(
    student_log_p: Tensor, words: Tensor, log_q: Tensor, log_rest: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return an approximation of `coarse_log_probabilities` at a `temperature`.

    `student_log_p` are all log-probabilities of the student, [tokens, V]; `words` [tokens, k] are the teacher's top k.
    The bucket's mass at temperature T, the sum of `q_v^(1/T)` over its words, depends on how the teacher distributes it
    among them, which is unknown. It is taken to be distributed as the student's: `q_v = q_rest p_v / p_rest`, so the
    bucket has `(q_rest / p_rest)^(1/T) sum_{v not in top-k} p_v^(1/T)`, without gradients. As at temperature 1, the
    divergence is exact if k is V or if the student's probabilities outside the top k are proportional to the teacher's.
    """
    scaled = at_least_float32(student_log_p) / temperature
    normaliser = scaled.logsumexp(-1, keepdim=True)
    log_p_t, log_q_t = (scaled - normaliser).gather(-1, words), log_q.detach() / temperature
    if words.size(-1) < student_log_p.size(-1):
        rest_t = _log_mass_outside(scaled, words)
        ratio = log_rest.detach() - _log_mass_outside(student_log_p.detach(), words)
        log_p_t = torch.cat([log_p_t, rest_t.unsqueeze(-1) - normaliser], dim=-1)
        log_q_t = torch.cat([log_q_t, (ratio / temperature + rest_t.detach()).unsqueeze(-1)], dim=-1)
    return log_p_t, log_q_t.log_softmax(-1).clamp(min=LOG_OF_NOTHING)


def _log_mass_outside(log_p: Tensor, words: Tensor) -> Tensor:
    """Return the log of the sum of all `exp(log_p)` [tokens, V] but those of `words` [tokens, k], [tokens]."""
    return log_p.scatter(-1, words, -math.inf).logsumexp(-1)


def top_k_cross_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return `-sum_{v in top-k(q)} q_v log p_v`, [tokens], without renormalisation (TIE-KD paper, section 3).

    `log_p` and `log_q` are both models' log-probabilities of the teacher's top k, [tokens, k]. With k = 1, this is
    `-q(t_1) log p(t_1)`, without any correlation between words; with k = V, it is word-level distillation in its
    cross-entropy form.
    """
    return -(log_q.detach().exp() * log_p).sum(-1)


def truncated_cross_entropy(student_log_p: Tensor, words: Tensor, log_q: Tensor, temperature: float = 1.0) -> Tensor:
    """Return `T^2 (-sum_{v in top-k(q)} r_v log p_v)`, [tokens], where `r` is the teacher's renormalised top k.

    `r = softmax(z_t / T)` over the teacher's top k logits alone and `p = softmax(z_s / T)` over the vocabulary
    (multilingual distillation, Tan et al., 2019, eq. 2, as in the authors' code). `words` and `log_q` are the teacher's
    top k and their log-probabilities, [tokens, k], or logits, because their normaliser cancels; `student_log_p` is
    [tokens, V].
    """
    share = log_probabilities(log_q.detach(), temperature).exp()
    scaled = at_least_float32(student_log_p) / temperature
    log_p = scaled.gather(-1, words) - scaled.logsumexp(-1, keepdim=True)
    return -(share * log_p).sum(-1) * temperature**2


def without_top_1(teacher_log_q: Tensor, gold: Tensor) -> Tensor:
    """Return the distribution with the mass of the first choice moved to the gold token (TIE-KD paper, section 3).

    Takes and returns log-probabilities [tokens, V]; `gold` is [tokens]. Rows whose first choice is the gold token are
    unchanged. The first choice keeps a tiny probability instead of 0, so that logarithms stay finite.
    """
    log_q = teacher_log_q.detach()
    first, gold = top_k_indices(log_q, 1), gold.unsqueeze(-1)
    moved = log_q.gather(-1, first).logaddexp(log_q.gather(-1, gold))
    nothing = moved.new_full((), LOG_OF_NOTHING).expand_as(moved)
    changed = log_q.scatter(-1, first, nothing).scatter(-1, gold, moved)
    return changed.where(first != gold, log_q)


def scaled_logit_error(student_logits: Tensor, teacher_logits: Tensor, scale: float) -> Tensor:
    """Return `mean_v (z_s - scale z_t)^2`, [tokens]: annealing KD's first stage (Jafari et al., 2021, eq. 5).

    `scale` is its Phi(T). Both logits are [tokens, V]. The result is in float32, or float64 for float64 logits.
    """
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    return mse_loss(student, teacher * scale, reduction="none").mean(-1)
