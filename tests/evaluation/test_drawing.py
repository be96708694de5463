import itertools

import pytest

from nmt_kd.evaluation.drawing import COLOURS, as_png, as_svg, compact, legend_beside, logarithmic, pyplot, styles


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (24.45, "24.45"),
        (2000, "2000"),
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
