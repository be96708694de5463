"""The page of an export compares two systems row by row."""

from dataclasses import replace

from nmt_kd.exporting.page import _side_by_side
from nmt_kd.exporting.summary import Result

STUDENT = Result(
    system="student",
    converted_to="int8",
    computed_in="int8_float32",
    parameters=5,
    megabytes_on_disk=1.0,
    load_seconds=0.1,
    words_per_second=9,
    tokens_per_second=9,
    sentences_per_second=9,
    milliseconds_alone=1,
    bleu=30,
    bleu_change=None,
    bleu_change_without_vnni=None,
    chrf=50,
    chrf_change=None,
    chrf_change_without_vnni=None,
    identical_percent=None,
    as_good_percent=None,
)


def test_ratios_are_percentages_or_factors_and_missing_where_the_other_figure_is_0():
    teacher = replace(STUDENT, system="teacher", parameters=10, words_per_second=3, bleu=0)
    rows = {row[0]: row[-1] for row in _side_by_side(STUDENT, teacher).rows}
    assert rows["parameters"] == "50.0 %"
    assert rows["words of the source per second"] == "3.00 x"
    assert rows["chrF"] == "100.0 %"
    assert rows["BLEU"] == "-"
