"""Memorisation of training targets, as Dankers and Raunak (2025) measure it, after Raunak and Menezes (2022).

An exact match is a training source whose translation is its training target. It is memorised extractively if a prefix
of the source of at most 75 % of its words is already translated as the whole target, which the model then cannot have
taken from the source. A prefix omits at least two words. As in the papers, only eligible pairs are tested: the source
has at least four words and is not equal to the target, and neither side has more than 1.3 times as many words as the
other. (The papers also identify the language of both sides.)
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FEWEST_WORDS = 4  # of a source
LARGEST_RATIO = 1.3  # of the words of the longer side to those of the shorter side
LARGEST_SHARE = 0.75  # of the words of a source in a prefix
MISSING_WORDS = 2  # of a source in a prefix, at least

Translate = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class Memorised:
    """What a model has memorised of some pairs, with an entry for each pair."""

    exact: list[bool]
    eligible: list[bool]  # exact matches in which extractive memorisation is looked for
    extractive: list[bool]


def normalised(text: str) -> str:
    """Return a text in Unicode form NFKC with single spaces.

    Translations that differ only in these then compare equal.
    """
    return " ".join(unicodedata.normalize("NFKC", text).split())


def is_eligible(source: str, target: str) -> bool:
    """Tell whether a pair is one in which extractive memorisation is looked for."""
    shorter, longer = sorted((len(source.split()), len(target.split())))
    if len(source.split()) < FEWEST_WORDS or shorter == 0:
        return False
    return longer / shorter <= LARGEST_RATIO and normalised(source) != normalised(target)


def prefixes(source: str) -> list[str]:
    """Return the prefixes of a source that are too short to translate all of it, shortest first."""
    words = source.split()
    longest = min(int(LARGEST_SHARE * len(words)), len(words) - MISSING_WORDS)
    return [" ".join(words[:length]) for length in range(1, longest + 1)]


def memorised(pairs: Sequence[tuple[str, str]], translate: Translate) -> Memorised:
    """Return what the model whose greedy search is `translate` has memorised of pairs of source and target.

    `translate` is called twice: for all sources, and for the prefixes of those that are eligible exact matches.
    """
    targets = [normalised(target) for _, target in pairs]
    found = translate([source for source, _ in pairs])
    exact = [normalised(text) == target for text, target in zip(found, targets, strict=True)]
    eligible = [match and is_eligible(*pair) for match, pair in zip(exact, pairs, strict=True)]
    cut = [
        (number, prefix) for number, (source, _) in enumerate(pairs) if eligible[number] for prefix in prefixes(source)
    ]
    extractive = [False] * len(pairs)
    for (number, _), text in zip(cut, translate([prefix for _, prefix in cut]), strict=True):
        extractive[number] |= normalised(text) == targets[number]
    return Memorised(exact, eligible, extractive)
