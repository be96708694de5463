import math

import pytest
import torch

from nmt_kd.losses.divergence import kl_divergence, scaled_logit_error, top_k_cross_entropy, without_top_1
from nmt_kd.losses.precision import log_probabilities


def softmax(scores, temperature=1.0):
    scaled = [score / temperature for score in scores]
    exponentials = [math.exp(score - max(scaled)) for score in scaled]
    return [value / sum(exponentials) for value in exponentials]


def each_token(function, *logits):
    """`function` of one token's scores at a time, in float64."""
    rows = zip(*(tensor.tolist() for tensor in logits), strict=True)
    return torch.tensor([function(*row) for row in rows], dtype=torch.float64)


def random_logits(count=2, tokens=6, vocabulary=9):
    return (torch.randn(count, tokens, vocabulary, dtype=torch.float64) * 3).unbind()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_divergence_equals_the_equation_token_by_token(temperature):
    def slow_form(student, teacher):
        p, q = softmax(student, temperature), softmax(teacher, temperature)
        return temperature**2 * sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, q, strict=True) if b > 0)

    student, teacher = random_logits()
    ours = kl_divergence(log_probabilities(student), log_probabilities(teacher), temperature)
    torch.testing.assert_close(ours, each_token(slow_form, student, teacher), rtol=1e-11, atol=1e-12)


def test_its_gradient_is_the_difference_of_the_distributions_times_the_temperature():
    student, teacher = random_logits()
    student = student.clone().requires_grad_()
    divergence = kl_divergence(log_probabilities(student), log_probabilities(teacher), 2.0).sum()
    (gradient,) = torch.autograd.grad(divergence, student)
    expected = 2.0 * ((student / 2.0).softmax(-1) - (teacher / 2.0).softmax(-1))
    torch.testing.assert_close(gradient, expected.detach())


@pytest.mark.parametrize(
    "loss", [kl_divergence, lambda p, q: top_k_cross_entropy(p, q, 2), lambda p, q: scaled_logit_error(p, q, 0.5)]
)
def test_gradients_reach_the_student_and_never_the_teacher(loss):
    student, teacher = (logits.clone().requires_grad_() for logits in random_logits())
    loss(log_probabilities(student), log_probabilities(teacher)).sum().backward()
    assert student.grad.norm() > 0
    assert teacher.grad is None


def test_the_divergence_is_zero_for_equal_distributions_also_where_the_logits_are_shifted():
    logits = torch.randn(4, 8, dtype=torch.float64)
    divergence = kl_divergence(log_probabilities(logits), log_probabilities(logits + 5))
    torch.testing.assert_close(divergence, torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("loss", [kl_divergence, lambda p, q: top_k_cross_entropy(p, q, 3)])
def test_extreme_logits_stay_finite(dtype, loss):
    student = torch.tensor([[6e4, -6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    teacher = torch.tensor([[-6e4, 6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    ours = loss(log_probabilities(student), log_probabilities(teacher))
    assert ours.dtype == torch.float32
    assert ours.isfinite().all()


@pytest.mark.parametrize("top_k", [1, 3, 9])
def test_the_top_k_cross_entropy_equals_the_equation_token_by_token(top_k):
    def slow_form(student, teacher):
        p, q = softmax(student), softmax(teacher)
        top = sorted(range(len(q)), key=lambda word: -q[word])[:top_k]
        return -sum(q[word] * math.log(p[word]) for word in top)

    student, teacher = random_logits()
    ours = top_k_cross_entropy(log_probabilities(student), log_probabilities(teacher), top_k)
    torch.testing.assert_close(ours, each_token(slow_form, student, teacher), rtol=1e-11, atol=1e-12)


def test_the_top_k_cross_entropy_of_all_words_is_the_divergence_and_the_teachers_entropy():
    log_p, log_q = map(log_probabilities, random_logits())
    entropy = -(log_q.exp() * log_q).sum(-1)
    torch.testing.assert_close(top_k_cross_entropy(log_p, log_q, 9), kl_divergence(log_p, log_q) + entropy)


def test_without_its_first_choice_the_teacher_gives_that_mass_to_the_gold_token():
    (teacher,) = random_logits(1)
    gold = torch.tensor([0, 1, 2, 3, 4, int(teacher[5].argmax())])
    ours = without_top_1(log_probabilities(teacher), gold).exp()
    for row, scores, target in zip(ours.tolist(), teacher.tolist(), gold.tolist(), strict=True):
        expected = softmax(scores)
        first = max(range(9), key=lambda word: expected[word])
        if first != target:
            expected[target] += expected[first]
            expected[first] = 0.0
        assert row == pytest.approx(expected, abs=1e-12)


def test_the_divergence_from_a_teacher_without_its_first_choice_is_finite_and_has_a_gradient():
    student, teacher = random_logits()
    log_q = without_top_1(log_probabilities(teacher), torch.zeros(6, dtype=torch.long))
    assert torch.autograd.gradcheck(
        lambda logits: kl_divergence(log_probabilities(logits), log_q), student.clone().requires_grad_()
    )


def test_the_logit_error_equals_the_equation_token_by_token():
    student, teacher = random_logits()
    expected = each_token(
        lambda s, t: sum((a - 0.3 * b) ** 2 for a, b in zip(s, t, strict=True)) / len(s), student, teacher
    )
    torch.testing.assert_close(scaled_logit_error(student, teacher, 0.3), expected)


def test_no_tokens_give_no_losses():
    nothing = torch.zeros(0, 7)
    for values in (
        kl_divergence(nothing, nothing),
        top_k_cross_entropy(nothing, nothing, 2),
        scaled_logit_error(nothing, nothing, 1.0),
    ):
        assert values.shape == (0,)
