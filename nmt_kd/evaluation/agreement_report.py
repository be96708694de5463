"""Show the agreement of two models as a table and as a plot."""

import textwrap
from pathlib import Path

from nmt_kd.errors import UserError
from nmt_kd.evaluation.agreement import Agreement, Measures
from nmt_kd.evaluation.drawing import load_matplotlib
from nmt_kd.evaluation.tables import Table

PLOT_FORMATS = (".png", ".pdf", ".svg")
DARK, LIGHT = "#1f4e79", "#c9c9c9"  # still distinct in greyscale


def as_table(agreement: Agreement) -> Table:
    """Return a table with one row for all target tokens and one for each bucket."""
    header = [
        "target tokens",
        "tokens",
        "share, %",
        "agreement, %",
        f"top-{agreement.top_k} edit distance",
        f"top-{agreement.top_k} ranking distance",
        "teacher accuracy, %",
        "student accuracy, %",
        "teacher calibration error, %",
        "student calibration error, %",
    ]
    errors = agreement.teacher_calibration_error, agreement.student_calibration_error
    rows = [["all", *_cells(agreement.total, *errors)]]
    for grouping, buckets in agreement.buckets.items():
        rows += [[f"{grouping.title}: {label}", *_cells(measures)] for label, measures in buckets.items()]
    return Table(header, rows)


def _cells(measures: Measures, teacher_error: float | None = None, student_error: float | None = None) -> list[str]:
    figures = [
        measures.share,
        measures.teacher_agreement,
        measures.edit_distance,
        measures.ranking_distance,
        measures.teacher_accuracy,
        measures.student_accuracy,
        teacher_error,
        student_error,
    ]
    return [f"{measures.tokens:,}", *("" if figure is None else f"{figure:.2f}" for figure in figures)]


def check_can_draw(file: Path) -> None:
    """Raise UserError if `draw` could not write `file`; call it before a long measurement."""
    load_matplotlib()
    if file.suffix.lower() not in PLOT_FORMATS:
        raise UserError(f"unknown plot format {file.name!r}; the file name must end in {', '.join(PLOT_FORMATS)}")
    if not file.parent.is_dir():
        raise UserError(f"cannot write {file}: folder {file.parent} does not exist; create it first")


def draw(agreement: Agreement, file: Path) -> None:
    """Plot the agreement in each bucket and its share of all tokens, and write the plot to `file`."""
    check_can_draw(file)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.6), layout="constrained")
    total = agreement.total
    figure.suptitle(f"Student and teacher with the same first choice, {total.tokens:,} target tokens")
    panels = figure.subplots(2, 2, sharey=True)
    for panel, (grouping, buckets) in zip(panels.flat, agreement.buckets.items(), strict=True):
        _draw_bars(panel, buckets, total)
        panel.set_xlabel(grouping.axis)
    for panel in panels[:, 0]:
        panel.set_ylabel("%")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; choose another path with --plot") from None


def _draw_bars(panel, buckets: dict[str, Measures], total: Measures) -> None:
    width = 0.38
    series = {
        "agreement in the bucket": ("teacher_agreement", DARK, -width / 2),
        "share of all tokens": ("share", LIGHT, width / 2),
    }
    for label, (name, colour, offset) in series.items():
        positions = [index + offset for index in range(len(buckets))]
        heights = [getattr(measures, name) for measures in buckets.values()]
        bars = panel.bar(positions, [height or 0 for height in heights], width, color=colour, label=label, zorder=2)
        panel.bar_label(bars, ["-" if height is None else f"{height:.1f}" for height in heights], padding=2, fontsize=8)
    panel.axhline(
        total.teacher_agreement,
        color="black",
        linewidth=0.9,
        linestyle="--",
        zorder=3,
        label=f"agreement on all tokens, {total.teacher_agreement:.1f} %",
    )
    panel.set_xticks(range(len(buckets)), [textwrap.fill(label, 12, break_on_hyphens=False) for label in buckets])
    panel.set_ylim(0, 108)
    panel.set_yticks(range(0, 101, 20))
    panel.grid(axis="y", color="#e6e6e6", zorder=0)
    panel.spines[["top", "right"]].set_visible(False)
