"""How far the student's hidden states are from the teacher's (PKD and CKD, Wu et al., 2020)."""

import torch
from torch import Tensor
from torch.nn import functional

from nmt_kd.losses.precision import at_least_float32


def student_up_error(projected_student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the two directions: `sum_d (s_d / |s| - t_d / |t|)^2`, the form of the published numbers.

    `projected_student` and `teacher` are [tokens, width], the width of the concatenated teacher layers. Returns
    [tokens], from 0 to 4, in float32 or the states' float64. Gradients reach the student alone.
    """
    student = functional.normalize(at_least_float32(projected_student), dim=-1)
    return (student - functional.normalize(at_least_float32(teacher.detach()), dim=-1)).square().sum(-1)


def teacher_down_error(student: Tensor, projected_teacher: Tensor) -> Tensor:
    """`mean_d (s_d - t_d)^2`, the paper's equation 5, with the concatenated teacher layers projected to the student.

    Both are [tokens, student's width]; returns [tokens] in float32 or the states' float64. Gradients reach the student
    and the projection, so both sides can shrink together; watch their norms.
    """
    return (at_least_float32(student) - at_least_float32(projected_teacher)).square().mean(-1)


def attention_error(student_scores: Tensor, teacher_scores: Tensor, padding: Tensor) -> Tensor:
    """Squared error of self-attention scores before the softmax, averaged over heads and keys that are no padding.

    Both scores are [batch, heads, queries, keys] with the same number of heads, `padding` [batch, keys] is true for
    padding. Returns [batch, queries] in float32 or the scores' float64. Gradients reach the student alone.
    """
    error = (at_least_float32(student_scores) - at_least_float32(teacher_scores.detach())).square().mean(1)
    kept = ~padding.unsqueeze(1)
    return torch.where(kept, error, 0).sum(-1) / kept.sum(-1).clamp(min=1)
