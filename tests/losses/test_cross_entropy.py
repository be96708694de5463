import math

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.precision import log_probabilities


def slow_form(logits, gold, label_smoothing):
    """The equation in plain Python floats, one token and one word at a time."""
    losses, nlls = [], []
    for scores, answer in zip(logits.tolist(), gold.tolist(), strict=True):
        largest = max(scores)
        normaliser = largest + math.log(sum(math.exp(score - largest) for score in scores))
        negative_logs = [normaliser - score for score in scores]
        share = label_smoothing / (len(scores) - 1)
        losses.append((1 - label_smoothing - share) * negative_logs[answer] + share * sum(negative_logs))
        nlls.append(negative_logs[answer])
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(nlls, dtype=torch.float64)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("spread", [0.0, 1.0, 6e4])
@pytest.mark.parametrize("tokens", [1, 7])
def test_matches_the_equation_token_by_token(label_smoothing, spread, tokens):
    logits = torch.randn(tokens, 11, dtype=torch.float64) * spread
    gold = torch.randint(11, (tokens,))
    for ours, slow in zip(
        label_smoothed_cross_entropy(log_probabilities(logits), gold, label_smoothing),
        slow_form(logits, gold, label_smoothing),
        strict=True,
    ):
        torch.testing.assert_close(ours, slow, rtol=1e-12, atol=1e-12)


def test_matches_fairseq_in_value_and_gradient():
    logits = torch.randn(9, 50, requires_grad=True)
    gold = torch.randint(50, (9,))
    ours, nll = label_smoothed_cross_entropy(log_probabilities(logits), gold, 0.1)
    (our_gradient,) = torch.autograd.grad(ours.sum(), logits)
    loss, fairseq_nll = label_smoothed_nll_loss(logits.log_softmax(-1), gold, 0.1)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(ours.sum(), loss)
    torch.testing.assert_close(nll.sum(), fairseq_nll)
    torch.testing.assert_close(our_gradient, gradient)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_its_gradient_matches_the_equation(label_smoothing):
    logits = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    gold = torch.tensor([5, 0, 2])
    assert torch.autograd.gradcheck(
        lambda scores: label_smoothed_cross_entropy(log_probabilities(scores), gold, label_smoothing), logits
    )


def test_memory_layout_does_not_matter():
    log_p = torch.randn(5, 7, dtype=torch.float64).log_softmax(-1)
    gold = torch.randint(7, (5, 2))[:, 0]
    ours = label_smoothed_cross_entropy(log_p.t().contiguous().t(), gold, 0.1)
    torch.testing.assert_close(ours, label_smoothed_cross_entropy(log_p, gold.contiguous(), 0.1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_float32_losses(dtype):
    logits = (torch.randn(5, 400) * 20).to(dtype)
    gold = torch.randint(400, (5,))
    ours, _ = label_smoothed_cross_entropy(log_probabilities(logits), gold, 0.1)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), slow_form(logits.double(), gold, 0.1)[0], rtol=1e-5, atol=1e-4)


def test_no_tokens_give_no_losses():
    ours, nll = label_smoothed_cross_entropy(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 0.1)
    assert ours.shape == nll.shape == (0,)
