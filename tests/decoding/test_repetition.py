import pytest

from nmt_kd.decoding.repetition import has_loop


@pytest.mark.parametrize(
    "text",
    [
        "a a a a a a a a",
        "x a b a b a b a b y",
        "the cat sat the cat sat the cat sat the cat sat",
        "und so weiter und so weiter und so weiter und so weiter und so",
        " ".join(list("abcdefgh") * 4),
    ],
)
def test_a_group_repeated_four_times_over_eight_tokens_is_a_loop(text):
    assert has_loop(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        ". . .",
        "a a a a a a a",
        "very very very good , very very very good",
        "a b a b a b",
        "eins zwei drei vier fünf sechs sieben acht neun zehn",
        " ".join(list("abcdefghi") * 4),
    ],
)
def test_ordinary_repetitions_are_not_loops(text):
    assert not has_loop(text.split())
