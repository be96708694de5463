"""In which order the student ranks the words."""

from torch import Tensor

from nmt_kd.engine.distribution import Prediction
from nmt_kd.losses.top_k import top_k_indices


def hierarchical_ranking_loss(student_log_p: Tensor, teacher: Prediction, top_k: int) -> Tensor:
    """Rank the teacher's top-k, and its top-1 above all, as the student's own (TIE-KD, Zhang et al., 2023, eq. 6).

    With s and t the top-k words of student and teacher, most probable first:
    `sum_u sum_v 1[q(t_u) > q(s_v)] max(0, p(s_v) - p(t_u)) + sum_u max(0, p(t_u) - p(t_1))`.
    Words that the teacher finds equally probable have no order, in the second sum either.
    `student_log_p` are log-probabilities [tokens, V]; returns one non-negative value a token, [tokens].
    Gradients reach the student's probabilities only: the teacher decides the order, and the indices are constants.
    """
    (t, q_t), s = teacher.top(top_k), top_k_indices(student_log_p, top_k)
    q_s = teacher.log_q_of(s)
    p_t, p_s = student_log_p.gather(-1, t).exp(), student_log_p.gather(-1, s).exp()
    out_of_order = (p_s.unsqueeze(1) - p_t.unsqueeze(2)).relu() * (q_t.unsqueeze(2) > q_s.unsqueeze(1))  # [.., u, v]
    above_the_first = (p_t - p_t[:, :1]).relu() * (q_t[:, :1] > q_t)
    return out_of_order.sum((1, 2)) + above_the_first.sum(1)
