import pytest

from nmt_kd.evaluation.examples import EXAMPLES, TranslatedText, compare, parts_by_presence

REFERENCE = "ein Hund läuft über die grüne Wiese"


def text(**hypotheses) -> TranslatedText:
    length = len(next(iter(hypotheses.values())))
    sources = [f"a dog runs across meadow {number}" for number in range(length)]
    return TranslatedText(("en", "de"), sources, [REFERENCE] * length, hypotheses)


def lines(*errors: int) -> list[str]:
    """The reference with each line's number of last words replaced."""
    return [" ".join([*REFERENCE.split()[: 7 - count], *["xyz"] * count]) for count in errors]


def numbers(examples) -> list[int]:
    return [example.number for example in examples]


def test_the_worst_and_the_largest_changes_come_in_order():
    (comparison,) = compare(text(plain=lines(0, 5, 1, 2), tie_kd=lines(3, 1, 1, 6)), [], "plain")
    assert comparison.system == "tie_kd"
    assert {title: numbers(found) for title, found in comparison.groups.items()} == {
        "Worst": [4, 1, 2, 3],
        "Largest gains over plain": [2],
        "Largest drops from plain": [4, 1],
    }
    worst = comparison.groups["Worst"][0]
    assert (worst.source, worst.reference) == ("a dog runs across meadow 3", REFERENCE)
    assert [translation.system for translation in worst.translations] == ["plain", "tie_kd"]
    assert worst.translations[0].chrf > worst.translations[1].chrf


def test_teacher_and_baseline_are_shown_beside_every_other_system():
    hypotheses = {name: lines(1, 2) for name in ("plain", "word_kd", "teacher", "tie_kd")}
    comparisons = compare(text(**hypotheses), ["teacher"], "plain")
    shown = [[t.system for t in comparison.groups["Worst"][0].translations] for comparison in comparisons]
    assert shown == [["teacher", "plain", "word_kd"], ["teacher", "plain", "tie_kd"]]


@pytest.mark.parametrize("baseline", [None, "plain"])
def test_a_single_system_is_shown_without_a_baseline_or_teacher(baseline):
    (comparison,) = compare(text(plain=lines(1, 2)), ["teacher"], baseline)
    assert (comparison.system, list(comparison.groups)) == ("plain", ["Worst"])
    assert [translation.system for translation in comparison.groups["Worst"][0].translations] == ["plain"]


def test_a_baseline_without_translations_is_left_out():
    (comparison,) = compare(text(tie_kd=lines(1, 2)), ["teacher"], "plain")
    assert list(comparison.groups) == ["Worst"]


def test_a_few_different_sentences_are_shown():
    many = text(plain=lines(*[3] * 20))
    (comparison,) = compare(many, [], None)
    assert len(comparison.groups["Worst"]) == EXAMPLES
    repeated = TranslatedText(("en", "de"), ["a dog"] * 20, many.references, many.hypotheses)
    (comparison,) = compare(repeated, [], None)
    assert numbers(comparison.groups["Worst"]) == [1]


@pytest.mark.parametrize(
    ("translation", "reference", "parts"),
    [
        ("Ein Hund läuft.", "ein Hund rennt .", [("Ein Hund ", True), ("läuft.", False)]),
        ("der der Hund", "der Hund", [("der ", True), ("der", False), (" Hund", True)]),
        ("a b c", "x", [("a b c", False)]),
        ("a x b", "x", [("a", False), (" x ", True), ("b", False)]),
        ("- , !", "x", [("- , !", True)]),
        ("我爱你", "我想你", [("我", True), ("爱", False), ("你", True)]),
        ("", "x", []),
    ],
)
def test_words_that_are_not_in_the_reference_are_marked(translation, reference, parts):
    assert parts_by_presence(translation, reference) == parts
