import random

import pytest

from nmt_kd.evaluation.oscillation import BIGRAMS, FOUR_GRAMS, most_occurrences


def slow_most_occurrences(tokens: list[str], words: int) -> int:
    """Compare every n-gram with every other."""
    ngrams = [tokens[start : start + words] for start in range(len(tokens) - words + 1)]
    return max((sum(one == other for other in ngrams) for one in ngrams), default=0)


@pytest.mark.parametrize("words", [1, 2, 4])
def test_the_count_matches_comparing_every_ngram_with_every_other(words):
    chance = random.Random(1)
    for length in range(40):
        tokens = chance.choices("abc", k=length)
        assert most_occurrences(" ".join(tokens), words) == slow_most_occurrences(tokens, words)


def test_case_does_not_count_and_punctuation_marks_are_words():
    assert most_occurrences("Nein, nein, NEIN,", 2) == 3  # "nein ,"
    assert most_occurrences("nein nein", 2) == 1
    assert most_occurrences("nein", 2) == most_occurrences("", 2) == 0
    assert most_occurrences("1 + 1+1", 2) == 2


@pytest.mark.parametrize(
    ("source", "translation", "oscillates"),
    [
        (0, 10, False),  # occurrences of "ha ho"
        (0, 11, True),
        (6, 11, True),
        (7, 11, False),
        (11, 11, False),
        (30, 35, True),
        (0, 0, False),
    ],
)
def test_bigrams_occur_more_than_ten_times_and_by_more_than_four(source, translation, oscillates):
    assert BIGRAMS.holds("ha ho " * source, "ha ho " * translation) == oscillates


def test_repeated_4_grams_occur_at_least_two_times_more():
    once, twice, thrice = ("a b c d . " * times for times in (1, 2, 3))
    assert FOUR_GRAMS.holds("short", twice)
    assert not FOUR_GRAMS.holds("short", once)
    assert not FOUR_GRAMS.holds(once, twice)
    assert FOUR_GRAMS.holds(once, thrice)
    assert not FOUR_GRAMS.holds(thrice, thrice)
    assert not FOUR_GRAMS.holds(thrice, "")
