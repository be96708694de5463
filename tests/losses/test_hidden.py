import math

import pytest
import torch

from nmt_kd.losses.hidden import attention_error, student_up_error, teacher_down_error


def states(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_student_up_compares_directions():
    student, teacher = states(2, 5, 7).unbind()

    def slow_form(ours, theirs):
        norms = [math.sqrt(sum(value**2 for value in vector)) for vector in (ours, theirs)]
        return sum((a / norms[0] - b / norms[1]) ** 2 for a, b in zip(ours, theirs, strict=True))

    expected = [slow_form(*pair) for pair in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert student_up_error(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(student_up_error(student * 3, teacher * 0.1), student_up_error(student, teacher))
    torch.testing.assert_close(student_up_error(-teacher, teacher), torch.full((5,), 4.0, dtype=torch.float64))


def test_teacher_down_is_the_mean_squared_difference():
    student, teacher = states(2, 5, 7).unbind()
    expected = [
        sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / 7
        for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert teacher_down_error(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)


def test_attention_is_averaged_over_heads_and_keys_without_padding():
    student, teacher = states(2, 2, 3, 4, 4).unbind()
    padding = torch.tensor([[True, True, False, False], [False] * 4])
    ours = attention_error(student, teacher, padding)
    for batch in range(2):
        keys = [key for key in range(4) if not padding[batch, key]]
        for query in range(4):
            errors = [
                (student[batch, head, query, key] - teacher[batch, head, query, key]).item() ** 2
                for head in range(3)
                for key in keys
            ]
            assert ours[batch, query].item() == pytest.approx(sum(errors) / len(errors), rel=1e-12)


@pytest.mark.parametrize("fusion", [student_up_error, teacher_down_error])
def test_gradients_are_those_of_the_equations(fusion):
    student, teacher = states(2, 3, 4).unbind()
    assert torch.autograd.gradcheck(lambda ours: fusion(ours, teacher), student.clone().requires_grad_())


def test_the_projected_teacher_has_gradients_and_the_teacher_itself_none():
    student, teacher = (tensor.clone().requires_grad_() for tensor in states(2, 3, 4))
    student_up_error(student, teacher).sum().backward()
    assert teacher.grad is None
    teacher_down_error(student, teacher).sum().backward()
    assert teacher.grad.norm() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_are_compared_in_float32(dtype):
    """Squares of 300 are more than float16 holds."""
    student, teacher = (torch.randn(2, 4, 8) * 300).to(dtype).unbind()
    for fusion in (student_up_error, teacher_down_error):
        error = fusion(student, teacher)
        assert error.dtype == torch.float32
        torch.testing.assert_close(error.double(), fusion(student.double(), teacher.double()), rtol=1e-4, atol=1e-5)


def test_states_of_zero_give_finite_errors_and_gradients():
    student = torch.zeros(2, 4, requires_grad=True)
    student_up_error(student, torch.ones(2, 4)).sum().backward()
    assert student.grad.isfinite().all()
