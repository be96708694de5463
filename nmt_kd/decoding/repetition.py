"""Detect hypotheses in which the decoder got stuck in a loop."""

from collections.abc import Sequence

LONGEST_PERIOD = 8
REPETITIONS = 4
SHORTEST_LOOP = 8  # tokens; three dots in a row are not a loop


def has_loop(tokens: Sequence) -> bool:
    """Return whether a group of up to 8 tokens occurs at least 4 times in a row, over 8 tokens or more."""
    for period in range(1, min(LONGEST_PERIOD, len(tokens) // REPETITIONS) + 1):
        needed = max(period * (REPETITIONS - 1), SHORTEST_LOOP - period)
        run = 0
        for before, after in zip(tokens, tokens[period:], strict=False):
            run = run + 1 if before == after else 0
            if run >= needed:
                return True
    return False
