"""Set up matplotlib without a display, and define styles that stay distinct in print."""

import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

from nmt_kd.errors import UserError

# Okabe and Ito (2008): colours that colour-blind people can tell apart, sorted from dark to light in greyscale.
COLOURS = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
# Systems whose styles are fixed; those of all others follow from a checksum of their names.
FAMILIAR = ["teacher", "plain", "word_kd", "tie_kd", "seq_kd", "selective_kd", "annealing_kd"]
FAMILIAR += ["ckd", "probing_kd", "seq_kd_word_kd", "seq_kd_tie_kd", "seq_kd_base", "reverse_teacher"]


def load_matplotlib():
    """Return matplotlib. Raises UserError if it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise UserError("plots need matplotlib; pip install 'nmt-kd[report]'") from None
    return matplotlib


def pyplot():
    """Return matplotlib's pyplot, set up to draw into files. Raises UserError if matplotlib is not installed."""
    load_matplotlib().use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "svg.hashsalt": "nmt-kd",  # makes SVG files reproducible
        }
    )
    return pyplot


def styles() -> Iterator[dict]:
    """Yield a colour, line style and marker for one system after another; the first 49 combinations are distinct."""
    for turn in range(len(LINES)):
        for index, colour in enumerate(COLOURS):
            kind = (index + turn) % len(LINES)
            yield {"color": colour, "linestyle": LINES[kind], "marker": MARKERS[kind]}


def system_styles(names: Iterable[str]) -> dict[str, dict]:
    """Return a style for each system, by name. A system has the same colour in every report, whatever its seed.

    Among systems of the same colour, line styles and markers differ.
    """
    looks = list(styles())
    taken: set[int] = set()
    found = {}
    for name in dict.fromkeys(names):
        base = re.sub(r"\.seed\d+$", "", name)
        first = FAMILIAR.index(base) if base in FAMILIAR else zlib.crc32(base.encode())
        same_colour = [(first + turn * len(COLOURS)) % len(looks) for turn in range(len(LINES))]
        slot = next((slot for slot in same_colour if slot not in taken), same_colour[0])
        taken.add(slot)
        found[name] = looks[slot]
    return found


def two_panels(narrow: bool, share_y: bool):
    """Return a figure with two panels, and the panels: side by side, or one above the other to fit a phone."""
    if narrow:
        figure, panels = pyplot().subplots(2, 1, figsize=(4.2, 6), sharey=share_y)
        figure.subplots_adjust(hspace=0.3)
        return figure, panels
    return pyplot().subplots(1, 2, figsize=(9, 3.2), sharey=share_y)


def compact(value: float, position: int | None = None) -> str:
    """Format a number for an axis, 661312 as 0.661M. matplotlib also passes the `position`, which is not used."""
    for smallest, size, unit in ((5e8, 1e9, "G"), (5e5, 1e6, "M"), (1e3, 1e3, "k")):
        if abs(value) >= smallest:
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}"


def logarithmic(axes, which: str = "x") -> None:
    """Make the axis `which` (x or y) logarithmic, with ticks at round numbers and some room at both ends."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(**{f"{which}scale": "log"})
    axes.margins(**{which: 0.15})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(compact)
    axis.set_minor_formatter(NullFormatter())


def cost_axis(axes, values: Sequence[float]) -> None:
    """Scale the x axis for the positive `values`, with at least two labels: logarithmic if they span a wide range."""
    from matplotlib.ticker import MaxNLocator

    if not values:
        axes.set_xticks([])
        return
    low, high = min(values), max(values)
    if high >= 4 * low:  # a smaller span may have one round number only
        logarithmic(axes)
        return
    middle = (low + high) / 2
    margin = max(0.65 * (high - low), 0.1 * middle)  # a difference that is too small to matter also looks small
    axes.set_xlim(middle - margin, middle + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3))
    axes.xaxis.set_major_formatter(compact)


def legend_below(axes, handles: list, names: list[str]) -> None:
    """Place a legend below the axes and their label, in two columns."""
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, handlelength=3)


def legend_beside(axes, handles: list, names: list[str]) -> None:
    """Place a legend to the right of the axes, where it covers nothing."""
    axes.legend(handles, names, loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=3)


def as_svg(figure) -> bytes:
    """Return the figure as an SVG file that needs no fonts."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return file.getvalue()


def as_png(figure) -> bytes:
    """Return the figure as a PNG file, at 200 dpi."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=200, bbox_inches="tight")
    return file.getvalue()
