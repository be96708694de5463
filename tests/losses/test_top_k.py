import math

import pytest
import torch

from nmt_kd.losses.top_k import BLOCK, top_k_indices


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("vocabulary", [5, BLOCK, BLOCK + 1, 2 * BLOCK + 1, 200, 11 * BLOCK, 7800, 37184])
def test_equals_torchs_top_k(vocabulary, top_k):
    values = torch.randn(9, vocabulary)
    assert torch.equal(top_k_indices(values, top_k), values.topk(top_k).indices)


@pytest.mark.parametrize("vocabulary", [1, 5, BLOCK + 1, 3 * BLOCK])
def test_top_k_of_the_whole_vocabulary_sorts_it(vocabulary):
    values = torch.rand(9, vocabulary).argsort(-1).float()
    assert torch.equal(top_k_indices(values, vocabulary), values.argsort(-1, descending=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("values", [range(3), [-math.inf, 0.0], [-math.inf], [-6e4, 6e4]])
@pytest.mark.parametrize("top_k", [1, 2, 5, 9])
def test_ties_give_distinct_indices_of_the_largest_values(values, top_k, dtype):
    values = torch.tensor(list(values), dtype=dtype)[torch.randint(len(values), (50, 20 * BLOCK + 3))]
    index = top_k_indices(values, top_k)
    assert torch.equal(values.gather(1, index), values.topk(top_k).values)
    assert all(len(set(row)) == top_k for row in index.tolist())


def test_the_largest_entries_may_lie_in_the_last_partial_block_or_all_in_one():
    values = torch.zeros(2, 30 * BLOCK + 7)
    values[0, -3:] = torch.tensor([3.0, 2.0, 1.0])
    values[1, 5:8] = torch.tensor([1.0, 2.0, 3.0])
    assert top_k_indices(values, 3).tolist() == [[30 * BLOCK + 4, 30 * BLOCK + 5, 30 * BLOCK + 6], [7, 6, 5]]


def test_minus_infinity_and_transposed_rows_are_handled():
    values = torch.full((20 * BLOCK, 4), -math.inf).t()
    values[:, [700, 3]] = torch.tensor([2.0, 1.0])
    assert top_k_indices(values, 2).tolist() == [[700, 3]] * 4


def test_no_rows_give_no_indices():
    assert top_k_indices(torch.zeros(0, 1000), 5).shape == (0, 5)
