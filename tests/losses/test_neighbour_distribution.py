"""The distribution of neighbours, against the equation in plain Python."""

import math

import pytest
import torch

from nmt_kd.losses.divergence import LOG_OF_NOTHING
from nmt_kd.losses.neighbours import mixed_with, neighbour_distribution
from nmt_kd.losses.top_k import other_words

V = 9
DISTANCES = [[0.0, 1.0, 4.0, 4.0], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 90_000.0, 1e30]]
TOKENS = [[3, 5, 3, 8], [0, 0, 0, 0], [7, 1, 7, 2]]


def slow_form(distances, tokens, temperature):
    """q over the vocabulary, in plain lists."""
    weights = [math.exp(-distance / temperature) for distance in distances]
    return [
        sum(weight for weight, token in zip(weights, tokens, strict=True) if token == word) / sum(weights)
        for word in range(V)
    ]


def found(distances=DISTANCES, tokens=TOKENS, temperature=2.0, vocabulary_size=V):
    return neighbour_distribution(torch.tensor(distances), torch.tensor(tokens), temperature, vocabulary_size)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 3.0, 1000.0])
def test_the_mass_of_a_word_is_that_of_its_neighbours(temperature):
    words, log_q = found(temperature=temperature)
    assert log_q.dtype == torch.float32
    for row, (distances, tokens) in enumerate(zip(DISTANCES, TOKENS, strict=True)):
        q = slow_form(distances, tokens, temperature)
        assert log_q[row].exp().tolist() == pytest.approx([q[word] for word in words[row]], abs=1e-6)
        assert log_q[row].exp().sum().item() == pytest.approx(1)
        assert log_q[row].diff().le(0).all()


def test_each_position_has_its_temperature():
    words, log_q = found(temperature=torch.tensor([[2.0], [1.0], [0.5]]))
    for row, temperature in enumerate((2.0, 1.0, 0.5)):
        q = slow_form(DISTANCES[row], TOKENS[row], temperature)
        assert log_q[row].exp().tolist() == pytest.approx([q[word] for word in words[row]], abs=1e-6)


def test_words_are_different_and_those_that_fill_up_have_no_mass():
    words, log_q = found()
    assert words.tolist() == [[3, 5, 8, 0], [0, 1, 2, 3], [1, 7, 2, 0]]
    assert log_q[0, 3].item() == log_q[1, 1].item() == LOG_OF_NOTHING


def test_equally_probable_words_are_in_the_order_of_their_indices():
    words, log_q = found([[1.0, 1.0, 1.0]], [[8, 2, 5]])
    assert words.tolist() == [[2, 5, 8]]
    assert log_q.exp().tolist() == [pytest.approx([1 / 3] * 3)]


def test_more_neighbours_than_words():
    words, log_q = found([[1.0] * 6], [[1, 0, 1, 1, 0, 1]], vocabulary_size=3)
    assert words.tolist() == [[1, 0, 2]]
    assert log_q.exp().tolist() == [pytest.approx([2 / 3, 1 / 3, 0])]


def test_no_positions():
    words, log_q = neighbour_distribution(torch.empty(0, 4), torch.empty(0, 4, dtype=torch.int64), 1.0, V)
    assert words.shape == log_q.shape == (0, 4)


@pytest.mark.parametrize("share", [0.25, 0.9])
def test_a_mixture_has_its_share_of_both(share):
    log_p = torch.randn(3, V, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    mixed = mixed_with(log_p, *found(), share).exp()
    for row, (distances, tokens) in enumerate(zip(DISTANCES, TOKENS, strict=True)):
        q, p = slow_form(distances, tokens, 2.0), log_p[row].exp().tolist()
        expected = [share * ours + (1 - share) * theirs for ours, theirs in zip(q, p, strict=True)]
        assert mixed[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_other_words_are_the_first_that_are_not_listed():
    words = torch.tensor([[0, 2, 2], [7, 8, 1]])
    assert other_words(words, 3, V).tolist() == [[1, 3, 4], [0, 2, 3]]
    assert other_words(words, 2, V, torch.tensor([[True, False, False]] * 2)).tolist() == [[1, 2], [0, 1]]
