"""The closed forms against the plain ones, in which autograd differentiates all log-probabilities."""

import logging
import math

import pytest
import torch
import torch._inductor.metrics
from torch._inductor import compile_fx

from nmt_kd.losses import logits as module
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.divergence import kl_divergence
from nmt_kd.losses.logits import CompiledLogits, Logits
from nmt_kd.losses.precision import log_probabilities

VOCABULARY = 200


@pytest.fixture(params=[Logits, CompiledLogits])
def form(request, monkeypatch):
    """Both forms; the formulas of the compiled one run as they are, which is the same but for the rounding."""
    monkeypatch.setattr(module, "compiled", lambda function: function)
    return request.param


def random_inputs(tokens, dtype=torch.float64, scale=3.0):
    torch.manual_seed(tokens)
    student, teacher = (torch.randn(2, tokens, VOCABULARY, dtype=torch.float64) * scale).to(dtype).unbind()
    return student, teacher, torch.randint(VOCABULARY, (tokens,)), torch.randint(VOCABULARY, (tokens, 4))


def closed(form, student, teacher, gold, words, label_smoothing=0.1, weights=(0.3, 0.7, 0.5)):
    """The weighted sum of cross-entropy, divergence and a function of single words, and its gradient."""
    ours = form(student, trained=True)
    cross_entropy, nll = ours.cross_entropy(gold, label_smoothing)
    divergence, p = ours.kl_divergence_from(form(teacher)), ours.log_p_of(words).exp()
    losses = weights[0] * cross_entropy + weights[1] * divergence + weights[2] * p.square().sum(-1)
    leaves = ours.leaves
    gradients = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
    return losses, nll, ours.gradient(dict(zip(leaves, gradients, strict=True)))


def plain(student, teacher, gold, words, label_smoothing=0.1, weights=(0.3, 0.7, 0.5)):
    z = student.clone().requires_grad_()
    log_p = log_probabilities(z)
    cross_entropy, nll = label_smoothed_cross_entropy(log_p, gold, label_smoothing)
    divergence, p = kl_divergence(log_p, log_probabilities(teacher)), log_p.gather(-1, words).exp()
    losses = weights[0] * cross_entropy + weights[1] * divergence + weights[2] * p.square().sum(-1)
    return losses, nll, torch.autograd.grad(losses.sum(), z)[0]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_values_and_gradients_equal_the_plain_forms(form, tokens, label_smoothing):
    inputs = random_inputs(tokens)
    for ours, theirs in zip(closed(form, *inputs, label_smoothing), plain(*inputs, label_smoothing), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_weights_may_differ_between_tokens(form):
    student, teacher, gold, words = random_inputs(5)
    weights = torch.rand(3, 5, dtype=torch.float64)
    ours, theirs = (f(student, teacher, gold, words, 0.1, weights) for f in (lambda *a: closed(form, *a), plain))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_a_word_that_is_picked_several_times_gets_the_sum_of_the_gradients(form):
    student, teacher, gold, words = random_inputs(3)
    words[:] = gold.unsqueeze(-1)
    ours, theirs = closed(form, student, teacher, gold, words), plain(student, teacher, gold, words)
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_in_lower_precision_values_are_float32_and_gradients_are_rounded_once(form, dtype, tolerance):
    student, teacher, gold, words = random_inputs(9, dtype)
    losses, nll, gradient = closed(form, student, teacher, gold, words)
    exact = plain(student.double(), teacher.double(), gold, words)
    assert (losses.dtype, nll.dtype, gradient.dtype) == (torch.float32, torch.float32, dtype)
    torch.testing.assert_close(losses.double(), exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), exact[2], rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize(("scale", "tolerance"), [(1e-3, 1e-5), (30.0, 1e-5), (1000.0, 1e-3)])
def test_flat_and_extreme_logits_stay_exact(form, scale, tolerance):
    """Within the rounding of float32, which is relative to the logits."""
    inputs = random_inputs(6, torch.float32, scale)
    losses, _, gradient = closed(form, *inputs)
    exact = plain(*(tensor.double() for tensor in inputs[:2]), *inputs[2:])
    torch.testing.assert_close(losses.double(), exact[0], rtol=tolerance, atol=1e-4)
    torch.testing.assert_close(gradient.double(), exact[2], rtol=10 * tolerance, atol=1e-5)


def test_equal_logits_have_no_divergence_and_no_gradient(form):
    student, *_ = random_inputs(4, torch.float32)
    ours = form(student, trained=True)
    divergence = ours.kl_divergence_from(form(student + 5))
    torch.testing.assert_close(divergence, torch.zeros(4), rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(divergence.sum(), ours.leaves, allow_unused=True)
    gradient = ours.gradient(dict(zip(ours.leaves, gradients, strict=True)))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


def test_single_logits_without_the_normaliser_have_a_gradient(form):
    student, _, gold, _ = random_inputs(3)
    ours = form(student, trained=True)
    leaves = (picked := ours.of_words(gold.unsqueeze(-1))), *ours.leaves
    gradients = torch.autograd.grad(picked.sum(), ours.leaves, allow_unused=True)
    gradient = ours.gradient(dict(zip(ours.leaves, gradients, strict=True)))
    assert len(leaves) == 3
    torch.testing.assert_close(gradient, torch.nn.functional.one_hot(gold, VOCABULARY).double())


def test_losses_of_all_log_probabilities_add_their_gradient_to_that_of_the_closed_forms(form):
    student, teacher, gold, _ = random_inputs(5)
    ours = form(student, trained=True)
    loss = (
        ours.kl_divergence_from(form(teacher)).sum()
        + ours.log_p.square().sum()
        + ours.cross_entropy(gold, 0.1)[0].sum()
    )
    gradients = torch.autograd.grad(loss, ours.leaves, allow_unused=True)
    z = student.clone().requires_grad_()
    log_p = log_probabilities(z)
    expected = kl_divergence(log_p, log_probabilities(teacher)).sum() + log_p.square().sum()
    expected = expected + label_smoothed_cross_entropy(log_p, gold, 0.1)[0].sum()
    torch.testing.assert_close(
        ours.gradient(dict(zip(ours.leaves, gradients, strict=True))), torch.autograd.grad(expected, z)[0]
    )


def test_logits_that_no_loss_used_have_no_gradient(form):
    student, *_ = random_inputs(2)
    ours = form(student, trained=True)
    assert ours.gradient(dict.fromkeys(ours.leaves)) is None


def test_without_training_nothing_requires_a_gradient(form):
    student, teacher, gold, words = random_inputs(2)
    ours = form(student)
    values = (*ours.cross_entropy(gold, 0.1), ours.kl_divergence_from(form(teacher)), ours.log_p_of(words))
    assert not any(value.requires_grad for value in values)
    assert ours.leaves == []


def test_the_most_probable_words_are_searched_once(form, monkeypatch):
    student, *_ = random_inputs(3)
    ours = form(student)
    top = ours.top(5)
    monkeypatch.setattr(module, "top_k_indices", None)
    torch.testing.assert_close(ours.top(2), top[:, :2])
    torch.testing.assert_close(top, student.topk(5).indices)


def test_infinite_logits_are_not_hidden(form):
    """fairseq's loss scaler must see an overflow of half precision."""
    student, teacher, gold, words = random_inputs(2, torch.float16)
    student[0, 3] = math.inf
    losses, _, gradient = closed(form, student, teacher, gold, words)
    assert not losses[0].isfinite()
    assert not gradient[0].isfinite().all()
    assert losses[1].isfinite()
    assert gradient[1].isfinite().all()


def test_the_compiled_form_agrees_and_moves_each_tensor_once(monkeypatch):
    """scripts/simulated_gpu counts a compiled function as one kernel that reads its arguments and writes its result."""
    log = compile_fx.inductor_metrics_log
    monkeypatch.setattr(log, "level", logging.INFO)  # else the compiler does not count
    monkeypatch.setattr(log, "propagate", False)
    log.manager._clear_cache()
    moved = torch._inductor.metrics.num_bytes_accessed
    inputs = random_inputs(50, torch.float32)
    with torch._inductor.config.patch(force_disable_caches=True):
        ours = closed(CompiledLogits, *inputs)
    for one, other in zip(ours, closed(Logits, *inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    normaliser, gap, gradient = 1, 2, 3  # tensors as large as the logits; two models have a normaliser
    logits = inputs[0].numel() * inputs[0].element_size()
    moved = torch._inductor.metrics.num_bytes_accessed - moved
    assert moved == pytest.approx((normaliser + gap + gradient) * logits, rel=0.1)
