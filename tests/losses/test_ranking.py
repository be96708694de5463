import itertools
import math

import pytest
import torch

from nmt_kd.losses.precision import log_probabilities
from nmt_kd.losses.ranking import hierarchical_ranking_loss
from nmt_kd.losses.top_k import top_k_indices

VOCABULARY = 9


def softmax(scores):
    largest = max(scores)
    exponentials = [math.exp(score - largest) for score in scores]
    total = sum(exponentials)
    return [value / total for value in exponentials]


def loss_of_one_token(p, q, s, t):
    """One pair of words at a time, from the equation; ties in q cost nothing."""
    loss = 0.0
    for t_u in t:
        for s_v in s:
            if q[t_u] > q[s_v]:
                loss += max(0.0, p[s_v] - p[t_u])
        if q[t[0]] > q[t_u]:
            loss += max(0.0, p[t_u] - p[t[0]])
    return loss


def slow_form(student_logits, teacher_logits, top_k):
    losses = []
    for rows in zip(student_logits.tolist(), teacher_logits.tolist(), strict=True):
        p, q = map(softmax, rows)
        s, t = (sorted(range(len(row)), key=lambda word: -row[word])[:top_k] for row in (p, q))
        losses.append(loss_of_one_token(p, q, s, t))
    return torch.tensor(losses, dtype=torch.float64)


def top_k_lists(probabilities, top_k):
    """All lists of the top-k words: several where words are equally probable."""
    largest = sorted(probabilities, reverse=True)[:top_k]
    lists = itertools.permutations(range(len(probabilities)), top_k)
    return [words for words in lists if [probabilities[word] for word in words] == largest]


def ranking_loss(student_logits, teacher_logits, top_k):
    return ranking_loss_of(log_probabilities(student_logits), log_probabilities(teacher_logits.detach()), top_k)


def ranking_loss_of(log_p, log_q, top_k):
    s, t = top_k_indices(log_p, top_k), top_k_indices(log_q, top_k)
    p_s, q_s, p_t, q_t = log_p.gather(-1, s).exp(), log_q.gather(-1, s), log_p.gather(-1, t).exp(), log_q.gather(-1, t)
    return hierarchical_ranking_loss(p_s, q_s, p_t, q_t)


def random_logits(tokens=40, vocabulary=VOCABULARY):
    return (torch.randn(2, tokens, vocabulary, dtype=torch.float64) * 2).unbind()


@pytest.mark.parametrize(("vocabulary", "top_k"), [(9, 1), (9, 2), (9, 5), (9, 9), (700, 1), (700, 5)])
@pytest.mark.parametrize("tokens", [1, 40])
def test_equals_the_equation_token_by_token(vocabulary, top_k, tokens):
    student, teacher = random_logits(tokens, vocabulary)
    ours = ranking_loss(student, teacher, top_k)
    torch.testing.assert_close(ours, slow_form(student, teacher, top_k), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_of_equal_words_any_may_be_in_the_top_k_and_the_equation_holds(top_k):
    student, teacher = torch.randint(3, (2, 30, 4)).double().unbind()
    losses = ranking_loss(student, teacher, top_k)
    for ours, *rows in zip(losses.tolist(), student.tolist(), teacher.tolist(), strict=True):
        p, q = map(softmax, rows)
        lists = itertools.product(top_k_lists(p, top_k), top_k_lists(q, top_k))
        assert any(ours == pytest.approx(loss_of_one_token(p, q, s, t), abs=1e-12) for s, t in lists)


@pytest.mark.parametrize("top_k", [1, 5])
def test_its_gradient_is_that_of_the_equation(top_k):
    student, teacher = random_logits(6)
    for q in (teacher, teacher.round()):
        assert torch.autograd.gradcheck(
            lambda logits, q=q: ranking_loss(logits, q, top_k), student.clone().requires_grad_()
        )


def test_a_student_that_ranks_as_the_teacher_costs_nothing():
    teacher, _ = random_logits()
    torch.testing.assert_close(ranking_loss(teacher * 0.3, teacher, 5), torch.zeros(40, dtype=torch.float64))


def test_ties_of_the_teacher_cost_nothing():
    student = torch.tensor([[5.0, 4.0, 3.0, 2.0]], dtype=torch.float64)
    assert ranking_loss(student, torch.zeros_like(student), 4) == 0
    two_pairs = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    assert ranking_loss(two_pairs + torch.tensor([0.0, -0.1, -0.1, 0.0]), two_pairs, 4) == 0
    assert ranking_loss(-two_pairs, two_pairs, 4) > 0


def test_ties_of_the_student_have_no_order_to_be_wrong_about():
    _, teacher = random_logits()
    assert torch.equal(ranking_loss(torch.zeros_like(teacher), teacher, 5), torch.zeros(40, dtype=torch.float64))


def test_gradients_reach_the_student_alone():
    student, teacher = (logits.clone().requires_grad_() for logits in random_logits())
    ranking_loss(student, teacher, 5).sum().backward()
    assert student.grad.norm() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_the_loss_in_float32(dtype):
    """No two words are equal, for of equal ones either may be in the top-k."""
    student, teacher = (torch.rand(2, 40, VOCABULARY).argsort(-1) / 2).to(dtype).unbind()
    ours = ranking_loss(student, teacher, 5)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), slow_form(student.double(), teacher.double(), 5), rtol=1e-5, atol=1e-6)


def test_words_whose_probability_is_too_small_for_a_float_still_have_an_order():
    """The student is certain of the teacher's last word: all three others are out of order, the first twice."""
    student = torch.tensor([[6e4, -6e4, 0.0, 1.0]]).requires_grad_()
    loss = ranking_loss(student, torch.tensor([[-6e4, 6e4, 1.0, 0.0]]), 4)
    assert loss.tolist() == [4.0]
    loss.sum().backward()
    assert student.grad.isfinite().all()


def test_the_order_in_memory_does_not_matter():
    log_p, log_q = map(log_probabilities, random_logits(vocabulary=700))
    scattered = [values.t().contiguous().t() for values in (log_p, log_q)]
    torch.testing.assert_close(
        ranking_loss_of(*scattered, 5),
        ranking_loss_of(log_p, log_q, 5),
    )


def test_no_tokens_give_no_losses():
    nothing = torch.zeros(0, VOCABULARY)
    assert ranking_loss(nothing, nothing, 5).shape == (0,)
