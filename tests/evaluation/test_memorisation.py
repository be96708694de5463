"""What counts as memorised, by models whose translations are written down."""

import pytest

from nmt_kd.evaluation.memorisation import is_eligible, memorised, normalised, prefixes


def slow_extractive(source: str, target: str, translate) -> bool:
    """Whether the shortest prefix that gives the target is short enough, as the paper's code looks for it."""
    words = source.split()
    if len(words) < 4 or source == target:
        return False
    if not 1 / 1.3 <= len(words) / len(target.split()) <= 1.3:
        return False
    if translate(source) != target:
        return False
    for length in range(1, len(words) - 1):
        if translate(" ".join(words[:length])) == target:
            return length / len(words) <= 0.75
    return False


def parrot(least: int, pairs):
    """A model that writes a source's target once it has read this many words of it, and else repeats what it read."""
    targets = dict(pairs)

    def translate(text: str) -> str:
        words = text.split()
        for source, target in targets.items():
            if source.split()[: len(words)] == words and len(words) >= min(least, len(source.split())):
                return target
        return f"not {text}"

    return translate


PAIRS = [
    ("a b c d", "A B C D"),
    ("e f g h i", "E F G H I"),
    ("k l m n o p q r", "K L M N O P Q R"),
    ("one two three", "eins zwei drei"),  # too short
    ("s t u v w", "S T"),  # too unequal
    ("x x x x x", "x x x x x"),  # a copy
    ("word", "Wort"),
]


@pytest.mark.parametrize("least", range(1, 9))
def test_it_matches_the_slow_form_whatever_the_model_needs_to_read(least):
    translate = parrot(least, PAIRS)
    found = memorised(PAIRS, lambda texts: [translate(text) for text in texts])
    assert found.extractive == [slow_extractive(*pair, translate) for pair in PAIRS]
    assert found.exact == [True] * len(PAIRS)
    assert found.eligible == [True] * 3 + [False] * 4
    # at most 2 of 4 words (two are missing), 3 of 5 and 6 of 8
    assert found.extractive[:3] == [least <= 2, least <= 3, least <= 6]


def test_a_model_that_needs_the_whole_source_memorises_nothing():
    pairs = PAIRS[:3]
    translate = parrot(100, pairs)
    found = memorised(pairs, lambda texts: [translate(text) for text in texts])
    assert (found.exact, found.extractive) == ([True] * 3, [False] * 3)


def test_prefixes_of_sources_that_are_no_exact_match_are_not_translated():
    asked = []

    def translate(texts):
        asked.append(list(texts))
        return ["A B C D" for _ in texts]

    found = memorised(PAIRS[:2], translate)
    assert found.exact == [True, False]
    assert asked == [["a b c d", "e f g h i"], ["a", "a b"]]


def test_prefixes_go_up_to_three_quarters_and_lack_two_words():
    for length in range(30):
        words = [str(number) for number in range(length)]
        expected = [words[:size] for size in range(1, length - 1) if size / length <= 0.75]
        assert [prefix.split() for prefix in prefixes("  ".join(words))] == expected
    assert prefixes("") == prefixes("one") == prefixes("one two") == []
    assert prefixes("one two three") == ["one"]


@pytest.mark.parametrize(
    ("source", "target", "eligible"),
    [
        ("a b c d", "1 2 3 4", True),
        ("a b c", "1 2 3", False),
        ("a b c d", "a  b c d", False),
        ("a b c d e f g h i j", "1 2 3 4 5 6 7 8 9 10 11 12 13", True),
        ("a b c d e f g h i j", "1 2 3 4 5 6 7 8 9 10 11 12 13 14", False),
        ("a b c d", "1 2 3", False),
        ("a b c d", "", False),
        ("", "", False),
    ],
)
def test_pairs_that_are_short_unequal_or_copies_are_not_eligible(source, target, eligible):
    assert is_eligible(source, target) == eligible


def test_spaces_and_compatible_characters_do_not_tell_translations_apart():
    assert normalised("  der\u00a0Hund \t bellt\u2026 ") == "der Hund bellt..."
    pairs = [("the dog", "der  Hund"), ("the cat", "die Katze")]
    found = memorised(pairs, lambda texts: ["der Hund ", ""][: len(texts)])
    assert found.exact == [True, False]


def test_no_pairs_have_memorised_nothing():
    found = memorised([], lambda texts: list(texts))
    assert (found.exact, found.eligible, found.extractive) == ([], [], [])
