"""Distances between the hidden states of student and teacher (PKD and CKD, Wu et al., 2020)."""

import torch
from torch import Tensor
from torch.nn import functional

from nmt_kd.losses.precision import at_least_float32


def student_up_error(projected_student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of the normalised states, `sum_d (s_d / |s| - t_d / |t|)^2`, [tokens], from 0 to 4.

    This is the loss behind the published results. `projected_student` and `teacher` are [tokens, width], with the width
    of the concatenated teacher layers. The result is in float32, or float64 for float64 states. Gradients flow only to
    the student.
    """
    student = functional.normalize(at_least_float32(projected_student), dim=-1)
    return (student - functional.normalize(at_least_float32(teacher.detach()), dim=-1)).square().sum(-1)


def teacher_down_error(student: Tensor, projected_teacher: Tensor) -> Tensor:
    """Return `mean_d (s_d - t_d)^2`, [tokens]: the paper's equation 5, on teacher layers projected to the student.

    Both arguments are [tokens, student width]. The result is in float32, or float64 for float64 states. Gradients flow
    to the student and to the projection, so both sides can shrink together; watch their norms.
    """
    return (at_least_float32(student) - at_least_float32(projected_teacher)).square().mean(-1)


def attention_error(student_scores: Tensor, teacher_scores: Tensor, padding: Tensor) -> Tensor:
    """Return the squared error of self-attention scores before the softmax, averaged over heads and non-padding keys.

    Both scores are [batch, heads, queries, keys] with the same number of heads; `padding` [batch, keys] is true for
    padding. The result is [batch, queries], in float32, or float64 for float64 scores. Gradients flow only to the
    student.
    """
    error = (at_least_float32(student_scores) - at_least_float32(teacher_scores.detach())).square().mean(1)
    kept = ~padding.unsqueeze(1)
    return torch.where(kept, error, 0).sum(-1) / kept.sum(-1).clamp(min=1)
