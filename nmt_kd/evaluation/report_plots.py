"""The plots of a report: learning curves, training losses, and quality against cost."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from nmt_kd.evaluation.drawing import compact, cost_axis, legend_below, legend_beside, two_panels
from nmt_kd.evaluation.report_tables import Scores
from nmt_kd.evaluation.runs import Point, Run
from nmt_kd.evaluation.sections import Plot
from nmt_kd.evaluation.systems import System

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_FROM = 1 / 3  # of the training; with the steep start in view, the differences would be too small to see
Styles = dict[str, dict]  # by system
Curves = dict[str, list[list[Point]]]  # by system, a curve for each run


def _draw_curves(axes, curves: Curves, styles: Styles, x: Callable[[Point], float]) -> dict[str, object]:
    """Draw a line for each run, and return one per system, in the order of the final values."""
    lines = {}
    for name, runs in curves.items():
        for points in runs:
            style = {**styles[name], "marker": styles[name]["marker"] if len(points) == 1 else None}
            (lines[name],) = axes.plot([x(point) for point in points], [point.value for point in points], **style)
    late = [
        point.value
        for runs in curves.values()
        for points in runs
        for point in points
        if point.updates >= SHOWN_FROM * points[-1].updates and math.isfinite(point.value)
    ]
    if late:  # not if all have diverged
        margin = 0.06 * (max(late) - min(late)) or 1
        axes.set_ylim(min(late) - margin, max(late) + margin)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(compact)
    return {name: lines[name] for name in sorted(lines, key=lambda name: -curves[name][0][-1].value)}


def _add_legend(axes, lines: dict[str, object], narrow: bool) -> None:
    (legend_below if narrow else legend_beside)(axes, list(lines.values()), list(lines))


def _label_y(panels, label: str, narrow: bool) -> None:
    for axes in panels if narrow else panels[:1]:
        axes.set_ylabel(label)


def _curves(systems: list[System], measure: str, kind: str) -> Curves:
    """Return the curves of the systems of which every run logged the measure."""
    curves = {system.name: [run.curve(measure, kind) for run in system.runs] for system in systems}
    return {name: runs for name, runs in curves.items() if all(runs)}


def learning_curves(systems: list[System], styles: Styles) -> list[Plot]:
    """Plot what validation measured, against the number of updates and against time."""
    titles = {
        "bleu": ("validation BLEU", "BLEU of the validation set, as measured during training."),
        "nll_loss": (
            "validation loss, bits per token",
            "Negative log-likelihood of the validation set, without label smoothing.",
        ),
        "teacher_agreement": (
            "agreement with the teacher, %",
            "Share of validation tokens with the same first choice by student and teacher, under teacher forcing.",
        ),
    }
    note = "Values from the first third of the training may be out of range."
    found = {measure: _curves(systems, measure, "valid") for measure in titles}
    return [
        Plot(f"curve_{measure}", f"{caption} {note}", _learning_curve(found[measure], label, styles))
        for measure, (label, caption) in titles.items()
        if found[measure]
    ]


def _learning_curve(curves: Curves, label: str, styles: Styles) -> Callable[[bool], "Figure"]:
    def draw(narrow: bool) -> "Figure":
        figure, panels = two_panels(narrow, share_y=True)
        _draw_curves(panels[0], curves, styles, lambda point: point.updates)
        lines = _draw_curves(panels[1], curves, styles, lambda point: point.seconds / 60)
        panels[0].set_xlabel("updates")
        panels[1].set_xlabel("minutes of training, without validation")
        _label_y(panels, label, narrow)
        _add_legend(panels[1], lines, narrow)
        return figure

    return draw


def training_losses(systems: list[System], styles: Styles) -> list[Plot]:
    """Plot the two terms of the training objective."""
    labels = {"ce_loss": "smoothed cross-entropy, bits per token", "kd_loss": "distillation term, bits per token"}
    found = {measure: _curves(systems, measure, "train_inner") for measure in labels}
    if not all(found.values()):
        return []

    def draw(narrow: bool) -> "Figure":
        figure, panels = two_panels(narrow, share_y=False)
        lines: dict[str, object] = {}
        for axes, (measure, curves) in zip(panels, found.items(), strict=True):
            lines |= _draw_curves(axes, curves, styles, lambda point: point.updates)
            axes.set_xlabel("updates")
            axes.set_ylabel(labels[measure])
        _add_legend(panels[1], lines, narrow)
        return figure

    caption = (
        "The two terms of the training objective. Methods define the distillation term differently: compare the shapes "
        "of the curves, not their values."
    )
    return [Plot("training_losses", caption, draw)]


def trade_off(systems: list[System], scores: Scores, styles: Styles) -> list[Plot]:
    """Plot BLEU against size and against decoding speed."""
    measures: dict[str, Callable[[Run], float | None]] = {
        "parameters": lambda run: run.parameters,
        "decoding, sentences per second": lambda run: run.decoding_sentences_per_second,
    }
    scored = [system for system in systems if system.name in scores and system.mean(measures["parameters"])]
    if not scored:
        return []
    scored.sort(key=lambda system: -scores[system.name]["BLEU"].mean)

    def draw(narrow: bool) -> "Figure":
        figure, panels = two_panels(narrow, share_y=True)
        legends = []
        for axes, (label, measure) in zip(panels, measures.items(), strict=True):
            costs = {system.name: cost for system in scored if (cost := system.mean(measure)) is not None}
            points = {}
            for name, cost in costs.items():
                style = {**styles[name], "linestyle": "none"}
                score = scores[name]["BLEU"]
                points[name] = axes.errorbar([cost], [score.mean], yerr=score.deviation, markersize=7, **style)
            cost_axis(axes, list(costs.values()))
            axes.set_xlabel(label)
            legends.append(points)
        _label_y(panels, "test BLEU", narrow)
        _add_legend(panels[1], legends[0], narrow)  # every system has a size
        return figure

    caption = "Quality against size, and against decoding speed on the machine that evaluated the systems."
    return [Plot("trade_off", caption, draw)]
