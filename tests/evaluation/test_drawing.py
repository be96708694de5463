import itertools

import pytest

from nmt_kd.evaluation.drawing import (
    COLOURS,
    FAMILIAR,
    as_png,
    as_svg,
    compact,
    cost_axis,
    legend_beside,
    logarithmic,
    pyplot,
    styles,
    system_styles,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (24.45, "24.45"),
        (999, "999"),
        (2000, "2k"),
        (20_000, "20k"),
        (661_312, "0.661M"),
        (7_041_024, "7.04M"),
        (2e9, "2G"),
    ],
)
def test_numbers_on_an_axis_are_abbreviated(value, text):
    assert compact(value) == text


def test_no_two_systems_in_a_plot_look_alike():
    looks = [tuple(look.values()) for look in itertools.islice(styles(), 40)]
    assert len(set(looks)) == 40
    assert len({look[0] for look in looks[: len(COLOURS)]}) == len(COLOURS)
    assert len({look[1] for look in looks[: len(COLOURS)]}) == len(COLOURS)


def test_a_system_has_the_same_colour_whatever_other_systems_there_are():
    names = [*FAMILIAR, "mine", "word_kd_0.7", "word_kd.seed2"]
    together = system_styles(names)
    for name in names:
        assert system_styles([name])[name]["color"] == together[name]["color"]
    assert together["word_kd.seed2"]["color"] == together["word_kd"]["color"]
    assert len({together[name]["color"] for name in FAMILIAR[: len(COLOURS)]}) == len(COLOURS)


def test_a_system_of_several_data_sets_keeps_its_line_and_marker():
    assert system_styles(["plain", "mine", "plain"]) == system_styles(["plain", "mine"])


def test_systems_of_the_same_colour_have_different_lines_and_markers():
    found = system_styles([*FAMILIAR, "a", "b", "c", "d", "e", "f"])
    assert len({tuple(look.values()) for look in found.values()}) == len(found)


@pytest.mark.parametrize(
    "values",
    [[661_312], [661_312, 661_312], [7_041_024, 7_041_536], [21e6, 24e6], [2.1, 8.3], [2.1, 8.5], [5e5, 6e7], [0.31]],
)
def test_an_axis_of_costs_has_several_different_labels(values):
    figure, axes = pyplot().subplots(figsize=(3, 3))
    axes.plot(values, [1] * len(values), "o")
    cost_axis(axes, values)
    figure.canvas.draw()
    low, high = axes.get_xlim()
    labels = [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert len(set(labels)) == len(labels) > 1
    assert low < min(values) <= max(values) < high


def test_drawing_a_figure_twice_gives_the_same_file():
    def draw():
        figure, axes = pyplot().subplots()
        line = axes.plot([1, 20], [3, 4])
        logarithmic(axes)
        legend_beside(axes, line, ["a"])
        return figure

    first, second = draw(), draw()
    assert as_svg(first) == as_svg(second)
    assert as_svg(first).startswith(b"<?xml")
    assert as_png(first).startswith(b"\x89PNG")
