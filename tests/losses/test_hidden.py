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


def test_attention_error_is_averaged_over_heads_and_non_padding_keys():
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


def test_padding_is_ignored_and_a_row_of_only_padding_has_no_error():
    student, teacher = states(2, 2, 3, 4, 4).unbind()
    padding = torch.tensor([[True, True, False, False], [True] * 4])
    other = student.masked_fill(padding[:, None, None], 6e4).requires_grad_()
    ours = attention_error(other, teacher, padding)
    torch.testing.assert_close(ours, attention_error(student, teacher, padding))
    assert ours[1].tolist() == [0.0] * 4
    ours.sum().backward()
    assert (other.grad != 0).any(2).any(1).tolist() == (~padding).tolist()


def test_attention_error_has_the_gradients_of_its_equation_and_none_for_the_teacher():
    student, teacher = (tensor.clone().requires_grad_() for tensor in states(2, 2, 3, 4, 4))
    padding = torch.tensor([[True, True, False, False], [False] * 4])
    attention_error(student, teacher, padding).sum().backward()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda ours: attention_error(ours, teacher, padding), student)


@pytest.mark.parametrize("fusion", [student_up_error, teacher_down_error])
def test_memory_layout_does_not_matter(fusion):
    student, teacher = states(2, 5, 7).unbind()
    scattered = (tensor.t().contiguous().t() for tensor in (student, teacher))
    torch.testing.assert_close(fusion(*scattered), fusion(student, teacher))


@pytest.mark.parametrize("fusion", [student_up_error, teacher_down_error])
def test_no_tokens_give_no_errors(fusion):
    assert fusion(states(0, 7), states(0, 7)).shape == (0,)


@pytest.mark.parametrize("fusion", [student_up_error, teacher_down_error])
def test_gradients_match_the_equations(fusion):
    student, teacher = states(2, 3, 4).unbind()
    assert torch.autograd.gradcheck(lambda ours: fusion(ours, teacher), student.clone().requires_grad_())


def test_teacher_down_has_gradients_for_the_projected_teacher_and_student_up_none():
    student, teacher = (tensor.clone().requires_grad_() for tensor in states(2, 3, 4))
    student_up_error(student, teacher).sum().backward()
    assert teacher.grad is None
    (gradient,) = torch.autograd.grad(teacher_down_error(student, teacher).sum(), teacher)
    assert gradient.norm() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_are_compared_in_float32(dtype):
    """The square of 300 overflows float16."""
    student, teacher = (torch.randn(2, 4, 8) * 300).to(dtype).unbind()

    def attention(ours, theirs):
        return attention_error(ours.view(1, 2, 2, 8), theirs.view(1, 2, 2, 8), torch.zeros(1, 8, dtype=torch.bool))

    for fusion in (student_up_error, teacher_down_error, attention):
        error = fusion(student, teacher)
        assert error.dtype == torch.float32
        torch.testing.assert_close(error.double(), fusion(student.double(), teacher.double()), rtol=1e-4, atol=1e-5)


def test_zero_states_give_finite_errors_and_gradients():
    student = torch.zeros(2, 4, requires_grad=True)
    student_up_error(student, torch.ones(2, 4)).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
