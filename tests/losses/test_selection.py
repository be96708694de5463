import math

import pytest
import torch

from nmt_kd.losses.selection import ScoreQueue, largest, share_of, uniform_hash


@pytest.mark.parametrize(
    ("rate", "count", "expected"),
    [
        (0.5, 3, 2),
        (0.5, 4, 2),
        (0.7, 10, 7),
        (0.1, 30, 3),
        (0.55, 100, 55),
        (1.0, 9, 9),
        (1e-6, 5, 1),
        (1e-12, 5, 1),
        (0.3, 0, 0),
    ],
)
def test_a_share_is_rounded_up_but_not_because_of_float_errors(rate, count, expected):
    assert share_of(rate, count) == expected


def test_a_share_in_percent_is_exact_for_every_count():
    wrong = [(rate, n) for rate in range(1, 101) for n in range(500) if share_of(rate / 100, n) != -(-rate * n // 100)]
    assert wrong == []


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 31])
def test_exactly_the_requested_share_of_scores_is_selected(rate, count):
    scores = torch.randn(count)
    chosen = largest(scores, rate)
    expected = sorted(scores.tolist(), reverse=True)[: math.ceil(rate * count)]
    assert sorted(scores[chosen].tolist(), reverse=True) == expected


def test_ties_are_broken_in_favour_of_the_first_scores():
    assert largest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 0.75).tolist() == [True, True, True, False]


def test_the_queue_keeps_the_newest_scores_in_order():
    queue = ScoreQueue(5)
    for batch in ([1.0, 2.0], [], [3.0, 4.0, 5.0], [6.0]):
        queue.push(torch.tensor(batch))
    assert queue.values.tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    queue.push(torch.arange(10.0, 18.0))
    assert queue.values.tolist() == [13.0, 14.0, 15.0, 16.0, 17.0]


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_the_threshold_is_the_score_at_the_rank_given_by_the_rate(rate):
    queue = ScoreQueue(20)
    pushed: list[float] = []
    for size in (1, 7, 9, 30):
        batch = torch.randint(5, (size,)).float()
        queue.push(batch)
        pushed = (pushed + batch.tolist())[-20:]
        rank = math.ceil(rate * len(pushed))
        assert queue.threshold(rate) == sorted(pushed, reverse=True)[rank - 1]


def test_an_empty_queue_selects_everything():
    assert ScoreQueue(3).threshold(0.5) == -math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_queue_stays_in_float32_for_scores_of_any_type(dtype):
    queue = ScoreQueue(4)
    queue.push(torch.tensor([2049.0]))  # float16 and bfloat16 cannot represent it
    queue.push(torch.tensor([0.5], dtype=dtype))
    assert queue.values.dtype == torch.float32
    assert queue.values.tolist() == [2049.0, 0.5]


def test_nan_scores_are_stored_as_zero():
    queue = ScoreQueue(4)
    queue.push(torch.tensor([math.nan, 3.0, math.nan, 1.0]))
    assert queue.values.tolist() == [0.0, 3.0, 0.0, 1.0]
    assert queue.threshold(0.5) == 1.0


def test_the_queue_holds_detached_copies_of_the_scores():
    queue, scores = ScoreQueue(4), torch.tensor([1.0, 2.0], requires_grad=True)
    queue.push(scores)
    with torch.no_grad():
        scores.zero_()
    assert queue.values.tolist() == [1.0, 2.0]
    assert not queue.values.requires_grad


def test_the_hash_is_uniform_and_without_collisions():
    sentences, positions = torch.meshgrid(torch.arange(300), torch.arange(60), indexing="ij")
    values = uniform_hash(sentences.flatten(), positions.flatten())
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    for bound in (0.1, 0.3, 0.9):
        assert (values < bound).double().mean() == pytest.approx(bound, abs=0.01)
    assert len(values.unique()) > 0.999 * len(values)


def test_the_hash_depends_on_the_order_of_the_pair():
    first, second = torch.combinations(torch.arange(100)).unbind(1)
    assert not (uniform_hash(first, second) == uniform_hash(second, first)).any()


def test_the_hash_depends_only_on_the_pair():
    first, second = torch.arange(50), torch.arange(50).flip(0)
    values = uniform_hash(first, second)
    one_by_one = [uniform_hash(first[i : i + 1], second[i : i + 1]).item() for i in range(50)]
    assert values.tolist() == one_by_one
    assert uniform_hash(first[:0], second[:0]).shape == (0,)


def test_the_hash_never_changes():
    """The values are pinned, because the same tokens must be selected again in a later run."""
    values = uniform_hash(torch.tensor([0, 1, 35_000_000]), torch.tensor([0, 7, 200]))
    assert (values * 2**32).tolist() == [2126711127, 2541200543, 2806494733]
