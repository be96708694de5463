import math

import pytest
import torch

from nmt_kd.losses.selection import ScoreQueue, largest, share_of, uniform_hash


@pytest.mark.parametrize(
    ("rate", "count", "expected"),
    [(0.5, 3, 2), (0.5, 4, 2), (0.7, 10, 7), (0.1, 30, 3), (0.55, 100, 55), (1.0, 9, 9), (1e-6, 5, 1), (0.3, 0, 0)],
)
def test_a_share_is_rounded_up_and_not_for_the_sake_of_floats(rate, count, expected):
    assert share_of(rate, count) == expected


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 31])
def test_the_largest_are_exactly_that_share_of_all(rate, count):
    scores = torch.randn(count)
    chosen = largest(scores, rate)
    expected = sorted(scores.tolist(), reverse=True)[: math.ceil(rate * count)]
    assert sorted(scores[chosen].tolist(), reverse=True) == expected


def test_of_equal_scores_the_first_are_chosen():
    assert largest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 0.75).tolist() == [True, True, True, False]


def test_the_queue_keeps_the_newest_in_their_order():
    queue = ScoreQueue(5)
    for batch in ([1.0, 2.0], [], [3.0, 4.0, 5.0], [6.0]):
        queue.push(torch.tensor(batch))
    assert queue.values.tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    queue.push(torch.arange(10.0, 18.0))
    assert queue.values.tolist() == [13.0, 14.0, 15.0, 16.0, 17.0]


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_the_threshold_is_the_score_at_that_rank_of_the_queue(rate):
    queue = ScoreQueue(20)
    pushed = []
    for size in (1, 7, 9, 30):
        batch = torch.randint(5, (size,)).float()
        queue.push(batch)
        pushed = (pushed + batch.tolist())[-20:]
        rank = math.ceil(rate * len(pushed))
        assert queue.threshold(rate) == sorted(pushed, reverse=True)[rank - 1]


def test_an_empty_queue_selects_everything():
    assert ScoreQueue(3).threshold(0.5) == -math.inf


def test_scores_in_half_precision_are_not_rounded_further():
    queue = ScoreQueue(4)
    queue.push(torch.tensor([2049.0]))
    assert queue.values.dtype == torch.float32
    assert queue.values.tolist() == [2049.0]


def test_the_hash_is_uniform_and_every_pair_has_its_own():
    sentences, positions = torch.meshgrid(torch.arange(300), torch.arange(60), indexing="ij")
    values = uniform_hash(sentences.flatten(), positions.flatten())
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    for bound in (0.1, 0.3, 0.9):
        assert (values < bound).double().mean() == pytest.approx(bound, abs=0.01)
    assert len(values.unique()) > 0.999 * len(values)


def test_the_hash_is_the_same_everywhere():
    """Pinned, for a corpus that was chosen once must be chosen again."""
    values = uniform_hash(torch.tensor([0, 1, 35_000_000]), torch.tensor([0, 7, 200]))
    assert values.tolist() == pytest.approx([0.49516, 0.59167, 0.65344], abs=1e-5)
