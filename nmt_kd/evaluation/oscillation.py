"""Oscillatory hallucinations: translations that repeat themselves although their sources do not.

Both papers compare how often the most frequent n-gram occurs in the translation and in the source.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Oscillation:
    """Thresholds that define an oscillation.

    They are how often the translation's most frequent n-gram occurs, and how much more often than the source's.
    """

    words: int  # of an n-gram
    occurrences: int  # of the translation's most frequent n-gram, at least
    excess: int  # over those of the source's most frequent n-gram, at least

    def holds(self, source: str, translation: str) -> bool:
        """Tell whether a translation oscillates."""
        found = most_occurrences(translation, self.words)
        return found >= self.occurrences and found - most_occurrences(source, self.words) >= self.excess


BIGRAMS = Oscillation(2, 11, 5)  # Dankers and Raunak (2025): more than 10 times, and by more than 4
FOUR_GRAMS = Oscillation(4, 2, 2)  # Raunak et al. (2021): n = 4, and t = 2 more


def most_occurrences(text: str, words: int) -> int:
    """Return how often the most frequent n-gram of this many words occurs in a text; 0 if the text is shorter."""
    tokens = _tokens(text)
    ngrams = Counter(zip(*(tokens[start:] for start in range(words)), strict=False))
    return max(ngrams.values(), default=0)


def _tokens(text: str) -> list[str]:
    """Return the words, in lower case, and the punctuation marks and symbols of a text."""
    separate = (f" {char} " if unicodedata.category(char)[0] in "PS" else char for char in text.lower())
    return "".join(separate).split()
