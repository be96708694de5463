"""Noise hits the wanted share of sentences, is the same in every run, and changes nothing else."""

import pytest

from nmt_kd.decoding.noise import Noise

TEXT = "A small dog doesn't chase the yellow ball ."
NUMBERS = range(2000)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("upper_case", "A SMALL DOG DOESN'T CHASE THE YELLOW BALL ."),
        ("title_case", "A Small Dog Doesn't Chase The Yellow Ball ."),
        ("no_final_stop", "A small dog doesn't chase the yellow ball"),
    ],
)
def test_the_wanted_share_of_sentences_is_changed(kind, expected):
    noise = Noise(**{f"noise_{kind}": 0.2})
    found = [noise(TEXT, 1, number) for number in NUMBERS]
    assert set(found) == {TEXT, expected}
    assert found.count(expected) == pytest.approx(400, abs=60)
    assert found == [noise(TEXT, 1, number) for number in NUMBERS]
    assert found != [noise(TEXT, 2, number) for number in NUMBERS]


def test_a_typo_changes_one_long_word_in_ten():
    found = {Noise(noise_typos=1)(TEXT, 1, number) for number in NUMBERS}
    assert TEXT not in found or len(found) > 10  # swapping two equal letters changes nothing
    for text in found:
        changed = [(one, other) for one, other in zip(TEXT.split(), text.split(), strict=True) if one != other]
        assert len(changed) <= 1
        for one, other in changed:
            assert one in {"small", "chase", "yellow", "ball"}
            assert one[0] == other[0]
            assert abs(len(one) - len(other)) <= 1


@pytest.mark.parametrize("text", ["", ".", "a .", "I am", "!"])
def test_text_without_words_to_change_stays_valid(text):
    noise = Noise(noise_typos=1, noise_title_case=1, noise_no_final_stop=1)
    found = noise(text, 1, 0)
    assert bool(found) == bool(text)


def test_kinds_of_noise_do_not_depend_on_each_other():
    alone, both = Noise(noise_no_final_stop=0.2), Noise(noise_no_final_stop=0.2, noise_typos=0.5)
    for number in NUMBERS:
        assert alone(TEXT, 1, number).endswith(".") == both(TEXT, 1, number).endswith(".")


def test_without_noise_nothing_changes_and_nothing_is_noted():
    assert all(Noise()(TEXT, 1, number) == TEXT for number in NUMBERS)
    assert Noise().settings(1) == {}
    assert Noise(noise_typos=0.1).settings(3) == {"noise_typos": 0.1, "noise_seed": 3}
