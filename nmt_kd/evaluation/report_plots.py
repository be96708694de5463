"""The plots of a report: learning curves, training losses, and quality against cost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmt_kd.evaluation.drawing import compact, legend_beside, logarithmic, pyplot
from nmt_kd.evaluation.report_tables import Scores
from nmt_kd.evaluation.runs import Point, Run
from nmt_kd.evaluation.systems import System

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_FROM = 1 / 3  # of the training; with the steep start in view, the differences would be too small to see


@dataclass(frozen=True)
class Plot:
    """A figure with its file name, without suffix, and its caption."""

    name: str
    caption: str
    figure: "Figure"


def _draw_curves(axes, curves: dict[str, list[list[Point]]], styles: dict[str, dict], x: Callable[[Point], float]):
    """Draw a line for each run; the legend has one entry per system, in the order of the final values."""
    lines = {}
    for name, runs in curves.items():
        style = {**styles[name], "marker": None}
        for points in runs:
            (lines[name],) = axes.plot([x(point) for point in points], [point.value for point in points], **style)
    late = [
        point.value
        for runs in curves.values()
        for points in runs
        for point in points
        if point.updates >= SHOWN_FROM * points[-1].updates
    ]
    margin = 0.06 * (max(late) - min(late)) or 1
    axes.set_ylim(min(late) - margin, max(late) + margin)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(compact)
    names = sorted(lines, key=lambda name: -curves[name][0][-1].value)
    legend_beside(axes, [lines[name] for name in names], names)


def learning_curves(systems: list[System], styles: dict[str, dict]) -> list[Plot]:
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
    plots = []
    for measure, (label, caption) in titles.items():
        curves = {system.name: [run.curve(measure) for run in system.runs] for system in systems}
        curves = {name: runs for name, runs in curves.items() if all(runs)}
        if not curves:
            continue
        figure, (left, right) = pyplot().subplots(1, 2, figsize=(9, 3.2), sharey=True)
        _draw_curves(left, curves, styles, lambda point: point.updates)
        _draw_curves(right, curves, styles, lambda point: point.seconds / 60)
        left.get_legend().remove()
        left.set_xlabel("updates")
        right.set_xlabel("minutes of training, without validation")
        left.set_ylabel(label)
        plots.append(Plot(f"curve_{measure}", f"{caption} {note}", figure))
    return plots


def training_losses(systems: list[System], styles: dict[str, dict]) -> list[Plot]:
    """Plot the two terms of the training objective."""
    labels = {"ce_loss": "smoothed cross-entropy, bits per token", "kd_loss": "distillation term, bits per token"}
    found = {
        measure: {system.name: [run.curve(measure, "train_inner") for run in system.runs] for system in systems}
        for measure in labels
    }
    found = {measure: {name: runs for name, runs in curves.items() if all(runs)} for measure, curves in found.items()}
    if not all(found.values()):
        return []
    figure, both = pyplot().subplots(1, 2, figsize=(9, 3.2))
    for axes, (measure, curves) in zip(both, found.items(), strict=True):
        _draw_curves(axes, curves, styles, lambda point: point.updates)
        axes.set_xlabel("updates")
        axes.set_ylabel(labels[measure])
    both[0].get_legend().remove()
    caption = (
        "The two terms of the training objective. Methods define the distillation term differently: compare the shapes "
        "of the curves, not their values."
    )
    return [Plot("training_losses", caption, figure)]


def trade_off(systems: list[System], scores: Scores, styles: dict[str, dict]) -> list[Plot]:
    """Plot BLEU against size and against decoding speed."""
    measures: dict[str, Callable[[Run], float | None]] = {
        "parameters": lambda run: run.parameters,
        "decoding, sentences per second": lambda run: run.decoding_sentences_per_second,
    }
    scored = [system for system in systems if system.name in scores and system.mean(measures["parameters"])]
    if not scored:
        return []
    figure, both = pyplot().subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axes, (label, measure) in zip(both, measures.items(), strict=True):
        for system in scored:
            cost, score = system.mean(measure), scores[system.name]["BLEU"]
            if cost is not None:
                style = {**styles[system.name], "linestyle": "none"}
                axes.errorbar([cost], [score.mean], yerr=score.deviation, label=system.name, markersize=7, **style)
        logarithmic(axes)
        axes.set_xlabel(label)
    both[0].set_ylabel("test BLEU")
    handles, names = both[0].get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda index: -scores[names[index]]["BLEU"].mean)
    both[1].legend(
        [handles[i] for i in order], [names[i] for i in order], loc="center left", bbox_to_anchor=(1.02, 0.5)
    )
    caption = "Quality against size, and against decoding speed on the machine that evaluated the systems."
    return [Plot("trade_off", caption, figure)]
