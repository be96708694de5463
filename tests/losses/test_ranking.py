import math

import pytest
import torch

from nmt_kd.losses.precision import log_probabilities
from nmt_kd.losses.ranking import hierarchical_ranking_loss

VOCABULARY = 9


def softmax(scores):
    exponentials = [math.exp(score - max(scores)) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def slow_form(student_logits, teacher_logits, top_k):
    """One token and one pair of words at a time, from the equation."""
    losses = []
    for student, teacher in zip(student_logits.tolist(), teacher_logits.tolist(), strict=True):
        p, q = softmax(student), softmax(teacher)
        s = sorted(range(len(p)), key=lambda word: -p[word])[:top_k]
        t = sorted(range(len(q)), key=lambda word: -q[word])[:top_k]
        loss = 0.0
        for u in range(top_k):
            for v in range(top_k):
                if q[t[u]] > q[s[v]]:
                    loss += max(0.0, p[s[v]] - p[t[u]])
            if q[t[0]] > q[t[u]]:
                loss += max(0.0, p[t[u]] - p[t[0]])
        losses.append(loss)
    return torch.tensor(losses, dtype=torch.float64)


def ranking_loss(student_logits, teacher_logits, top_k):
    return hierarchical_ranking_loss(log_probabilities(student_logits), log_probabilities(teacher_logits), top_k)


def random_logits(tokens=40):
    return (torch.randn(2, tokens, VOCABULARY, dtype=torch.float64) * 2).unbind()


@pytest.mark.parametrize("top_k", [1, 2, 5, VOCABULARY])
@pytest.mark.parametrize("tokens", [1, 40])
def test_equals_the_equation_token_by_token(top_k, tokens):
    student, teacher = random_logits(tokens)
    ours = ranking_loss(student, teacher, top_k)
    torch.testing.assert_close(ours, slow_form(student, teacher, top_k), rtol=1e-12, atol=1e-14)


def test_its_gradient_is_that_of_the_equation():
    student, teacher = random_logits(6)
    assert torch.autograd.gradcheck(lambda logits: ranking_loss(logits, teacher, 5), student.clone().requires_grad_())


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
def test_half_precision_logits_give_the_float32_loss_of_the_rounded_logits(dtype):
    student, teacher = (logits.to(dtype) for logits in random_logits())
    ours = ranking_loss(student, teacher, 5)
    assert ours.dtype == torch.float32
    expected = slow_form(student.double(), teacher.double(), 5)
    # words that rounding made equal may be listed in another order; on the loss that has no effect
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)


def test_extreme_logits_stay_finite_in_value_and_gradient():
    student = torch.tensor([[6e4, -6e4, 0.0, 1.0]]).requires_grad_()
    loss = ranking_loss(student, torch.tensor([[-6e4, 6e4, 1.0, 0.0]]), 4)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


def test_no_tokens_give_no_losses():
    nothing = torch.zeros(0, VOCABULARY)
    assert ranking_loss(nothing, nothing, 5).shape == (0,)
