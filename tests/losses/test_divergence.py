import math

import pytest
import torch

from nmt_kd.losses.divergence import kl_divergence


def softmax(scores, temperature):
    scaled = [score / temperature for score in scores]
    exponentials = [math.exp(score - max(scaled)) for score in scaled]
    return [value / sum(exponentials) for value in exponentials]


def slow_form(student_logits, teacher_logits, temperature):
    """One token and one word at a time, from the equation."""
    losses = []
    for student, teacher in zip(student_logits.tolist(), teacher_logits.tolist(), strict=True):
        p, q = softmax(student, temperature), softmax(teacher, temperature)
        losses.append(temperature**2 * sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, q, strict=True) if b > 0))
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_equals_the_equation_token_by_token(temperature):
    student, teacher = torch.randn(2, 6, 9, dtype=torch.float64) * 3
    ours = kl_divergence(student, teacher, temperature)
    torch.testing.assert_close(ours, slow_form(student, teacher, temperature), rtol=1e-11, atol=1e-12)


def test_gradient_is_the_difference_of_the_distributions_times_the_temperature():
    student, teacher = torch.randn(2, 6, 9, dtype=torch.float64)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(kl_divergence(student, teacher, 2.0).sum(), student)
    expected = 2.0 * ((student / 2.0).softmax(-1) - (teacher / 2.0).softmax(-1))
    torch.testing.assert_close(gradient, expected.detach())


def test_gradients_never_reach_the_teacher():
    student, teacher = torch.randn(2, 3, 5).unbind()
    teacher.requires_grad_()
    assert not kl_divergence(student, teacher).requires_grad


def test_is_zero_for_equal_distributions_also_where_the_logits_are_shifted():
    logits = torch.randn(4, 8, dtype=torch.float64)
    torch.testing.assert_close(kl_divergence(logits, logits + 5), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_stay_finite(dtype):
    student = torch.tensor([[6e4, -6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    teacher = torch.tensor([[-6e4, 6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    ours = kl_divergence(student, teacher)
    assert ours.dtype == torch.float32
    assert ours.isfinite().all()
    assert ours[1] == 0
