import pytest
import torch
from criterions.test_contract import loss_and_gradients
from torch.nn import functional

from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.divergence_kinds import symmetric_kl_divergence


@pytest.mark.parametrize("alpha", [0, 2])
def test_two_dropout_passes_equal_the_plain_form_in_loss_and_gradients(build, sample, alpha):
    """With alpha 0, these are two plain passes."""
    criterion, student = build("r_drop", "--r-drop-alpha", alpha, "--dropout", "0.3", "--kd-chunk-tokens", 7)
    torch.manual_seed(1)
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    student.zero_grad()
    torch.manual_seed(1)
    kept = sample["target"].ne(criterion.padding_idx)
    first, second = (student(**sample["net_input"])[0].log_softmax(-1)[kept] for _ in range(2))
    divergences = [
        functional.kl_div(p, q, log_target=True, reduction="sum") for p, q in ((first, second), (second, first))
    ]
    share = 0.1 / (first.size(-1) - 1)
    expected = alpha * sum(divergences) / 2
    for log_p in (first, second):
        nll = -log_p.gather(-1, sample["target"][kept].unsqueeze(-1)).sum()
        expected = expected + (0.9 - share) * nll - share * log_p.sum()
    expected.backward()
    assert divergences[0] > 0.1
    torch.testing.assert_close(loss, expected)
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_alpha_0_is_the_sum_of_two_plain_losses(build, sample):
    criterion, student = build("r_drop", "--r-drop-alpha", 0, "--dropout", "0.3")
    torch.manual_seed(1)
    loss, _, logged = criterion(student, sample)
    torch.manual_seed(1)
    kept = sample["target"].ne(criterion.padding_idx)
    plain = [
        label_smoothed_cross_entropy(
            student(**sample["net_input"])[0].log_softmax(-1)[kept], sample["target"][kept], 0.1
        )
        for _ in range(2)
    ]
    assert loss.item() == pytest.approx(sum(losses.sum().item() for losses, _ in plain), rel=1e-6)
    assert loss.item() == pytest.approx((logged["ce_loss"] + logged["second_ce_loss"]).item(), rel=1e-6)


def test_the_divergence_of_the_passes_matches_the_equation_with_gradients_to_both():
    torch.manual_seed(1)
    first, second = torch.randn(2, 4, 7, dtype=torch.float64).unbind()
    p, q = first.softmax(-1), second.softmax(-1)
    expected = ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)) / 2
    torch.testing.assert_close(symmetric_kl_divergence(p.log(), q.log()), expected)
    inputs = first.requires_grad_(), second.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: symmetric_kl_divergence(a.log_softmax(-1), b.log_softmax(-1)), inputs)


def test_a_student_without_dropout_has_no_divergence(build, sample):
    criterion, student = build("r_drop")
    _, _, logged = loss_and_gradients(criterion, student, sample)
    assert logged["r_drop_loss"].item() == pytest.approx(0, abs=1e-5)
