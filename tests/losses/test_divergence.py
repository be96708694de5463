import itertools
import math
from functools import partial

import pytest
import torch

from nmt_kd.engine.distribution import WholeDistribution
from nmt_kd.losses.divergence import (
    kl_divergence,
    scaled_logit_error,
    top_k_cross_entropy,
    truncated_cross_entropy,
    without_top_1,
)
from nmt_kd.losses.precision import log_probabilities


def of_top_k(log_p, teacher, top_k):
    """The cross-entropy of the teacher's top k, given its logits."""
    words, log_q = WholeDistribution(teacher).top(top_k)
    return top_k_cross_entropy(log_p.gather(-1, words), log_q)


LOSSES = [
    kl_divergence,
    lambda p, q: kl_divergence(p, q, 2.0),
    lambda p, q: of_top_k(p, q, 2),
    lambda p, q: scaled_logit_error(p, q, 0.5),
    lambda p, q: truncated_cross_entropy(p, *WholeDistribution(q).top(3), 0.6),
]


def log_softmax(scores, temperature=1.0):
    scaled = [score / temperature for score in scores]
    normaliser = max(scaled) + math.log(sum(math.exp(score - max(scaled)) for score in scaled))
    return [score - normaliser for score in scaled]


def softmax(scores):
    return [math.exp(value) for value in log_softmax(scores)]


def slow_divergence(student, teacher, temperature=1.0):
    pairs = zip(log_softmax(student, temperature), log_softmax(teacher, temperature), strict=True)
    return temperature**2 * sum(math.exp(log_q) * (log_q - log_p) for log_p, log_q in pairs)


def each_token(function, *logits):
    """Apply `function` to the scores of one token at a time, in float64."""
    rows = zip(*(tensor.tolist() for tensor in logits), strict=True)
    return torch.tensor([function(*row) for row in rows], dtype=torch.float64)


def random_logits(count=2, tokens=6, vocabulary=9):
    return (torch.randn(count, tokens, vocabulary, dtype=torch.float64) * 3).unbind()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("tokens", [1, 6])
def test_the_divergence_matches_the_equation_token_by_token(temperature, tokens):
    student, teacher = random_logits(tokens=tokens)
    ours = kl_divergence(log_probabilities(student), log_probabilities(teacher), temperature)
    expected = each_token(partial(slow_divergence, temperature=temperature), student, teacher)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


def test_its_gradient_is_the_difference_of_the_distributions_times_the_temperature():
    student, teacher = random_logits()
    student = student.clone().requires_grad_()
    divergence = kl_divergence(log_probabilities(student), log_probabilities(teacher), 2.0).sum()
    (gradient,) = torch.autograd.grad(divergence, student)
    expected = 2.0 * ((student / 2.0).softmax(-1) - (teacher / 2.0).softmax(-1))
    torch.testing.assert_close(gradient, expected.detach())


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_match_the_losses(loss):
    student, teacher = random_logits(tokens=3)
    log_q = log_probabilities(teacher)
    assert torch.autograd.gradcheck(
        lambda logits: loss(log_probabilities(logits), log_q), student.clone().requires_grad_()
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_memory_layout_does_not_matter(loss):
    student, teacher = random_logits()
    scattered = (logits.t().contiguous().t() for logits in (student, teacher))
    torch.testing.assert_close(loss(*scattered), loss(student, teacher))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_flow_only_to_the_student(loss):
    student, teacher = (logits.clone().requires_grad_() for logits in random_logits())
    loss(log_probabilities(student), log_probabilities(teacher)).sum().backward()
    assert student.grad.norm() > 0
    assert teacher.grad is None


def test_the_divergence_is_zero_for_equal_distributions_even_if_the_logits_are_shifted():
    logits = torch.randn(4, 8, dtype=torch.float64)
    divergence = kl_divergence(log_probabilities(logits), log_probabilities(logits + 5))
    torch.testing.assert_close(divergence, torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("loss", [kl_divergence, lambda p, q: of_top_k(p, q, 3)])
def test_extreme_logits_give_the_exact_loss_in_float32(dtype, loss):
    """Either the teacher is certain, or both models are undecided: either the entropy or the divergence is 0."""
    student = torch.tensor([[6e4, -6e4, 0.0], [-6e4, 6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    teacher = torch.tensor([[-6e4, 6e4, 0.0], [-6e4, 6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    ours = loss(log_probabilities(student), log_probabilities(teacher))
    assert ours.dtype == torch.float32
    expected = each_token(slow_divergence, student, teacher)
    if loss is not kl_divergence:
        expected[2] = math.log(3)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("top_k", [1, 3, 9])
def test_the_top_k_cross_entropy_matches_the_equation_token_by_token(top_k):
    def slow_form(student, teacher):
        p, q = softmax(student), softmax(teacher)
        top = sorted(range(len(q)), key=lambda word: -q[word])[:top_k]
        return -sum(q[word] * math.log(p[word]) for word in top)

    student, teacher = random_logits()
    ours = of_top_k(log_probabilities(student), teacher, top_k)
    torch.testing.assert_close(ours, each_token(slow_form, student, teacher), rtol=1e-11, atol=1e-12)


def test_ties_in_the_top_k_cross_entropy_never_count_a_word_twice():
    student, teacher = torch.randn(20, 5, dtype=torch.float64), torch.randint(2, (20, 5)).double()
    losses = of_top_k(log_probabilities(student), teacher, 3)
    for ours, *rows in zip(losses.tolist(), student.tolist(), teacher.tolist(), strict=True):
        p, q = map(softmax, rows)
        most = sorted(q)[-3:]
        tops = (words for words in itertools.combinations(range(5), 3) if sorted(q[word] for word in words) == most)
        assert any(ours == pytest.approx(-sum(q[word] * math.log(p[word]) for word in words)) for words in tops)


def test_the_top_k_cross_entropy_of_all_words_is_the_divergence_plus_the_teachers_entropy():
    log_p, log_q = map(log_probabilities, random_logits())
    entropy = -(log_q.exp() * log_q).sum(-1)
    torch.testing.assert_close(of_top_k(log_p, log_q, 9), kl_divergence(log_p, log_q) + entropy)


def test_the_mass_of_the_first_choice_moves_to_the_reference_token():
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_its_first_choice_any_teacher_is_still_a_finite_distribution(dtype):
    teacher = torch.tensor([[6e4, -6e4, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], dtype=dtype, requires_grad=True)
    for gold in range(3):
        ours = without_top_1(log_probabilities(teacher), torch.full((3,), gold))
        assert not ours.requires_grad
        assert ours.isfinite().all()
        torch.testing.assert_close(ours.exp().sum(-1), torch.ones(3, dtype=dtype))


def test_the_divergence_from_a_teacher_without_its_first_choice_is_finite_with_a_gradient():
    student, teacher = random_logits()
    log_q = without_top_1(log_probabilities(teacher), torch.zeros(6, dtype=torch.long))
    assert torch.autograd.gradcheck(
        lambda logits: kl_divergence(log_probabilities(logits), log_q), student.clone().requires_grad_()
    )


def test_the_logit_error_matches_the_equation_token_by_token():
    student, teacher = random_logits()
    expected = each_token(
        lambda s, t: sum((a - 0.3 * b) ** 2 for a, b in zip(s, t, strict=True)) / len(s), student, teacher
    )
    torch.testing.assert_close(scaled_logit_error(student, teacher, 0.3), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_error_of_half_precision_logits_is_computed_in_float32(dtype):
    """The square of 300 overflows float16."""
    student, teacher = ((logits * 300).to(dtype) for logits in random_logits())
    ours = scaled_logit_error(student, teacher, 0.9)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(
        ours.double(), scaled_logit_error(student.double(), teacher.double(), 0.9), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_no_tokens_give_no_losses(loss):
    nothing = torch.zeros(0, 7)
    assert loss(nothing, nothing).shape == (0,)


def test_moving_the_first_choice_works_without_tokens():
    assert without_top_1(torch.zeros(0, 7), torch.zeros(0, dtype=torch.long)).shape == (0, 7)


# -- multilingual distillation ----------------------------------------------------------------------------------------


def slow_truncated_cross_entropy(student, teacher, top_k, temperature):
    best = sorted(range(len(teacher)), key=lambda word: -teacher[word])[:top_k]
    shares = softmax([teacher[word] / temperature for word in best])
    log_p = log_softmax(student, temperature)
    return -(temperature**2) * sum(share * log_p[word] for share, word in zip(shares, best, strict=True))


@pytest.mark.parametrize("top_k", [1, 4, 9])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 3.0])
def test_the_truncated_cross_entropy_renormalises_the_top_logits_at_a_temperature(top_k, temperature):
    torch.manual_seed(1)
    student, teacher = (3 * torch.randn(5, 9, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    expected = each_token(
        lambda z_s, z_t: slow_truncated_cross_entropy(z_s, z_t, top_k, temperature), student.detach(), teacher
    )
    ours = truncated_cross_entropy(
        log_probabilities(student), *WholeDistribution(teacher).top(top_k), temperature=temperature
    )
    torch.testing.assert_close(ours, expected)
    (gradient,) = torch.autograd.grad(ours.sum(), student)
    shares = torch.zeros_like(teacher)
    values, words = teacher.topk(top_k)
    shares.scatter_(-1, words, (values / temperature).softmax(-1))
    torch.testing.assert_close(gradient, temperature * ((student.detach() / temperature).softmax(-1) - shares))


def test_the_truncated_cross_entropy_takes_logits_for_log_probabilities():
    torch.manual_seed(1)
    student, teacher = torch.randn(4, 9).log_softmax(-1), torch.randn(4, 9)
    words, log_q = WholeDistribution(teacher).top(3)
    torch.testing.assert_close(
        truncated_cross_entropy(student, words, teacher.gather(-1, words), 0.6),
        truncated_cross_entropy(student, words, log_q, 0.6),
    )


def test_equally_probable_top_words_have_equal_shares():
    student = torch.tensor([[0.0, 1.0, 2.0, 3.0]]).log_softmax(-1)
    teacher = torch.zeros(1, 4)  # whichever two words come first, each has a half
    words, log_q = WholeDistribution(teacher).top(2)
    expected = -student.gather(-1, words).mean(-1)
    torch.testing.assert_close(truncated_cross_entropy(student, words, log_q), expected)


def test_half_precision_students_have_a_truncated_cross_entropy_in_float32():
    student, teacher = torch.randn(3, 9).half(), torch.randn(3, 9)
    words, log_q = WholeDistribution(teacher).top(3)
    ours = truncated_cross_entropy(log_probabilities(student), words, log_q, 0.6)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, truncated_cross_entropy(student.float().log_softmax(-1), words, log_q, 0.6))
