import math

import pytest
import torch

from nmt_kd.losses.precision import at_least_float32, log_probabilities


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_half_precision_is_converted_to_float32(dtype, expected):
    values = torch.ones(2, 3, dtype=dtype)
    assert at_least_float32(values).dtype == expected
    assert log_probabilities(values).dtype == expected
    assert log_probabilities(values, 2.0).dtype == expected


def test_log_probabilities_of_half_precision_logits_are_not_rounded():
    logits = (torch.randn(4, 300) * 20).half()
    torch.testing.assert_close(
        log_probabilities(logits).double(), logits.double().log_softmax(-1), rtol=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.1])
def test_matches_the_definition_for_logits_and_for_log_probabilities(temperature):
    scores = [0.3, -2.0, 5.0]
    total = math.log(sum(math.exp(score / temperature) for score in scores))
    expected = torch.tensor([[score / temperature - total for score in scores]], dtype=torch.float64)
    logits = torch.tensor([scores], dtype=torch.float64)
    torch.testing.assert_close(log_probabilities(logits, temperature), expected)
    torch.testing.assert_close(log_probabilities(log_probabilities(logits), temperature), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_extreme_logits_neither_overflow_nor_underflow(dtype, temperature):
    logits = torch.tensor([[6e4, -6e4, 0.0], [-6e4, -6e4, -6e4]], dtype=dtype)
    largest = logits[0, 0].item() / temperature
    expected = torch.tensor([[0.0, -2 * largest, -largest], [-math.log(3)] * 3])
    torch.testing.assert_close(log_probabilities(logits, temperature), expected)


def test_gradients_of_half_precision_logits_match_float32():
    logits = torch.randn(3, 8).half().requires_grad_()
    log_probabilities(logits, 2.0)[:, 0].sum().backward()
    expected = (torch.eye(8)[0] - (logits.float() / 2).softmax(-1)) / 2
    torch.testing.assert_close(logits.grad, expected.half().detach(), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_memory_layout_does_not_matter_and_no_tokens_give_no_rows(temperature):
    logits = torch.randn(5, 7, dtype=torch.float64)
    expected = log_probabilities(logits, temperature)
    torch.testing.assert_close(log_probabilities(logits.t().contiguous().t(), temperature), expected)
    assert log_probabilities(logits[:0], temperature).shape == (0, 7)


def test_temperature_one_is_bitwise_identical():
    logits = torch.randn(3, 50)
    assert torch.equal(log_probabilities(logits, 1.0), logits.log_softmax(-1))
