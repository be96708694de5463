import math

import pytest
import torch

from nmt_kd.evaluation.calibration import CalibrationSums


def slow_calibration_error(tokens: list[tuple[float, bool]]) -> float:
    """The expected calibration error in % of pairs of confidence and correctness, bin by bin."""
    error = 0.0
    for low in range(10):
        inside = [(confidence, correct) for confidence, correct in tokens if low / 10 < confidence <= (low + 1) / 10]
        if inside:
            accuracy = sum(correct for _, correct in inside) / len(inside)
            confidence = math.fsum(confidence for confidence, _ in inside) / len(inside)
            error += len(inside) / len(tokens) * abs(accuracy - confidence)
    return 100 * error


def sums_of(confidence: torch.Tensor, correct: torch.Tensor, *batches: slice) -> CalibrationSums:
    sums = CalibrationSums(confidence.size(1), torch.device("cpu"))
    for rows in batches or [slice(None)]:
        sums.add(confidence[rows], correct[rows])
    return sums


@pytest.fixture
def tokens():
    """The confidence and the correctness of two models, the second overconfident; the first has empty bins."""
    generator = torch.Generator().manual_seed(1)
    first = torch.rand(500, generator=generator) * 0.5 + 0.25
    second = torch.rand(500, generator=generator).clamp(min=1e-6)
    correct = [torch.rand(500, generator=generator) < chance for chance in (first, second / 2)]
    return torch.stack([first, second], 1), torch.stack(correct, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_error_matches_going_through_the_bins(tokens, dtype):
    confidence, correct = tokens[0].to(dtype), tokens[1]
    for model, error in enumerate(sums_of(confidence, correct).errors()):
        pairs = list(zip(confidence[:, model].tolist(), correct[:, model].tolist(), strict=True))
        assert error == pytest.approx(slow_calibration_error(pairs), abs=1e-7)


def test_neither_the_order_nor_the_batches_change_a_bit(tokens):
    whole = sums_of(*tokens).errors()
    order = torch.randperm(500, generator=torch.Generator().manual_seed(2))
    batches = [slice(start, start + 7) for start in range(0, 500, 7)]
    assert sums_of(tokens[0][order], tokens[1][order], *batches).errors() == whole
    assert sums_of(*tokens, *reversed(batches)).errors() == whole


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [
        ([1.0, 1.0], [1, 1], 0),
        ([1.0, 1.0], [0, 0], 100),
        ([0.75] * 4, [1, 1, 1, 0], 0),
        ([0.75, 0.25], [0, 1], 75),  # two bins, which do not cancel
        ([0.625, 0.6875], [0, 1], 100 * abs(1 - 1.3125) / 2),  # one bin, where they do
    ],
)
def test_the_error_of_small_examples(confidence, correct, error):
    found = sums_of(torch.tensor(confidence).unsqueeze(1), torch.tensor(correct).unsqueeze(1)).errors()
    assert found == [pytest.approx(error)]


def test_upper_bounds_belong_to_the_lower_bin():
    bounds = torch.tensor([[index / 10] for index in range(1, 11)])
    above = (bounds[:-1] + 1e-4, torch.ones(9, 1))
    sums = sums_of(bounds, torch.ones(10, 1))
    assert sums.tokens.tolist() == [1] * 10
    sums.add(*above)
    assert sums.tokens.tolist() == [1] + [2] * 9


def test_a_probability_that_rounding_puts_above_one_is_in_the_last_bin():
    assert sums_of(torch.tensor([[1.0000002]]), torch.ones(1, 1)).errors() == [pytest.approx(0, abs=1e-4)]


def test_no_tokens_have_no_error():
    assert sums_of(torch.empty(0, 2), torch.empty(0, 2)).errors() == [None, None]
