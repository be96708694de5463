"""A significance test for two systems on the same sentences, each of which has or has not some property."""

import math
from collections.abc import Sequence


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the p-value of the exact two-sided McNemar test, a sign test on the sentences where the two differ.

    The null hypothesis is that these sentences have the property in one system as often as in the other.
    """
    only_first = sum(one and not other for one, other in zip(first, second, strict=True))
    only_second = sum(other and not one for one, other in zip(first, second, strict=True))
    differing = only_first + only_second
    extreme = sum(math.comb(differing, count) for count in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * extreme / 2**differing)
