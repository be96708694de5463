"""How far the student's distribution is from the teacher's, over the vocabulary or over a part of it."""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nmt_kd.losses.precision import at_least_float32, log_probabilities
from nmt_kd.losses.top_k import top_k_indices

LOG_OF_NOTHING = -100.0  # a probability of 1e-44
SMALLEST_REST = 1e-6  # float32 cannot tell less from what it loses in 1 - sum


def kl_divergence(student_log_p: Tensor, teacher_log_q: Tensor, temperature: float = 1.0) -> Tensor:
    """`KL(q || p) = sum_v q_v (log q_v - log p_v)` of word-level distillation (Kim & Rush, 2016, eq. 4), in nats.

    Both arguments are log-probabilities [tokens, V]; both distributions are taken at `temperature`, and the divergence
    is multiplied by its square, so that gradients keep their size (Hinton et al., 2015). Returns [tokens]. Exact: no
    epsilon inside the logarithms. Gradients reach the student alone.
    """
    log_p, log_q = student_log_p, teacher_log_q.detach()
    if temperature != 1:
        log_p, log_q = log_probabilities(log_p, temperature), log_probabilities(log_q, temperature)
    # This way round and in place, two tensors of [tokens, V] fewer are written; on a CPU that is what the sum costs.
    divergence = -(log_p - log_q).mul_(log_q.exp()).sum(-1)
    return divergence if temperature == 1 else divergence * temperature**2


def coarse_divergence(student_log_p: Tensor, words: Tensor, log_q: Tensor, log_rest: Tensor) -> Tensor:
    """`kl_divergence` where all words but the teacher's top k are one: what a cache of the top k can tell.

    `sum_{v in top-k} q_v (log q_v - log p_v) + q_rest (log q_rest - log p_rest)`, with `words` and `log_q` [tokens, k]
    the top k and `log_rest` [tokens] the log of the others' mass; `student_log_p` is [tokens, V]. Returns [tokens].
    Never more than the divergence itself, and the same where k is V or the student's other words are in proportion to
    the teacher's. So the student learns how much is left for the rest, and shares that out by itself.
    """
    log_p = student_log_p.gather(-1, words)
    rest = log_rest.exp()
    p_rest = (1 - log_p.exp().sum(-1)).clamp(min=SMALLEST_REST)
    of_the_rest = torch.where(rest > 0, rest * (log_rest.clamp(min=LOG_OF_NOTHING) - p_rest.log()), 0.0)
    return (log_q.exp() * (log_q - log_p)).sum(-1) + of_the_rest


def top_k_cross_entropy(student_log_p: Tensor, words: Tensor, log_q: Tensor) -> Tensor:
    """`-sum_{v in top-k(q)} q_v log p_v`, not renormalised (TIE-KD paper, section 3): what the top of q alone teaches.

    `words` and `log_q` are the teacher's top k and their log-probabilities, [tokens, k]; `student_log_p` is
    [tokens, V]; returns [tokens]. With k = 1 it is `-q(t_1) log p(t_1)`, without any correlation between words; with
    all of V it is the cross-entropy form of word-level distillation.
    """
    return -(log_q.detach().exp() * student_log_p.gather(-1, words)).sum(-1)


def without_top_1(teacher_log_q: Tensor, gold: Tensor) -> Tensor:
    """The log-probabilities of the teacher once the mass of its first choice is moved to the gold token.

    [tokens, V] and [tokens] to [tokens, V]; unchanged where the first choice is the gold token (TIE-KD paper,
    section 3). The first choice keeps the smallest positive probability instead of none, so that logs stay finite.
    """
    log_q = teacher_log_q.detach()
    first, gold = top_k_indices(log_q, 1), gold.unsqueeze(-1)
    moved = log_q.gather(-1, first).logaddexp(log_q.gather(-1, gold))
    nothing = moved.new_full((), LOG_OF_NOTHING).expand_as(moved)
    changed = log_q.scatter(-1, first, nothing).scatter(-1, gold, moved)
    return changed.where(first != gold, log_q)


def scaled_logit_error(student_logits: Tensor, teacher_logits: Tensor, scale: float) -> Tensor:
    """`mean_v (z_s - scale z_t)^2`, annealing KD's first stage (Jafari et al., 2021, eq. 5) with `scale` its Phi(T).

    Both logits are [tokens, V]; returns [tokens] in float32 or the logits' float64.
    """
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    return mse_loss(student, teacher * scale, reduction="none").mean(-1)
