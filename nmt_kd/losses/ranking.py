"""The ranking loss of TIE-KD."""

from torch import Tensor


def hierarchical_ranking_loss(p_s: Tensor, q_s: Tensor, p_t: Tensor, q_t: Tensor) -> Tensor:
    """Return the penalty for ranking words differently from the teacher, [tokens] (TIE-KD, 2023, eq. 6).

    With s and t the top-k words of student and teacher, most probable first:
    `sum_u sum_v 1[q(t_u) > q(s_v)] max(0, p(s_v) - p(t_u)) + sum_u max(0, p(t_u) - p(t_1))`.
    Words to which the teacher gives equal probabilities have no order, in the second sum either.

    All arguments are [tokens, k]: the student's probabilities p at the words s and t, and the teacher's q there, of
    which only the order matters, so that log-probabilities will do. No value is negative. Gradients flow only to p.
    """
    out_of_order = (p_s.unsqueeze(1) - p_t.unsqueeze(2)).relu() * (q_t.unsqueeze(2) > q_s.unsqueeze(1))  # [.., u, v]
    above_the_first = (p_t - p_t[:, :1]).relu() * (q_t[:, :1] > q_t)
    return out_of_order.sum((1, 2)) + above_the_first.sum(1)
