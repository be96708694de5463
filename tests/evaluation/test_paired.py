import random
from itertools import product

import pytest

from nmt_kd.evaluation.paired import mcnemar


def slow_p(first: list[bool], second: list[bool]) -> float:
    """Try all ways in which fair coins decide the sentences that differ."""
    signs = [one - other for one, other in zip(first, second, strict=True) if one != other]
    sums = [abs(sum(flips)) for flips in product((-1, 1), repeat=len(signs))]
    return sum(value >= abs(sum(signs)) for value in sums) / len(sums)


def test_p_matches_trying_all_outcomes():
    chance = random.Random(1)
    for size in range(12):
        for _ in range(10):
            first, second = ([chance.random() < share for _ in range(size)] for share in (0.3, 0.7))
            assert mcnemar(first, second) == pytest.approx(slow_p(first, second))
            assert mcnemar(first, second) == mcnemar(second, first)


def test_systems_that_do_not_differ_have_a_p_of_one():
    assert mcnemar([], []) == mcnemar([True, False], [True, False]) == 1
    assert mcnemar([True, False], [False, True]) == 1


def test_large_samples_do_not_overflow():
    assert mcnemar([True] * 3000, [False] * 3000) < 1e-300
    assert mcnemar([True] * 3000 + [False] * 3000, [False] * 3000 + [True] * 3000) == 1
