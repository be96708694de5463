"""One page about several training runs: what was gained, how it was learnt, what it cost, what was set otherwise."""

import base64
import html
import logging
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

import nmt_kd
from nmt_kd.errors import UserError
from nmt_kd.evaluation.drawing import as_png, as_svg, compact, legend_beside, logarithmic, pyplot, styles
from nmt_kd.evaluation.runs import Point, Run, settings_that_differ
from nmt_kd.evaluation.scores import SystemScore, figure, score_systems
from nmt_kd.evaluation.tables import Table, as_html, number

logger = logging.getLogger(__name__)

Metrics = Callable[[list[str], list[str]], dict[str, Metric]]  # for sources and references, metrics by name
SHOWN_FROM = 1 / 3  # of the training: what comes before would squeeze all that differs into a line

LONGEST_SETTING = 36  # characters; of longer ones, mostly paths, the end is shown


@dataclass(frozen=True)
class System:
    """Runs that differ in nothing but their seeds, on one data set."""

    name: str
    runs: list[Run]

    @property
    def data_set(self) -> str:
        """Of its runs."""
        return self.runs[0].data_set

    def mean(self, measure: Callable[[Run], float | None]) -> float | None:
        """Of a measure over the runs; None where a run lacks it."""
        values = [measure(run) for run in self.runs]
        return None if None in values else statistics.mean(values)


def systems_of(runs: Iterable[Run]) -> list[System]:
    """Put runs of one system together, in the order of the first of each; the shortest name is the system's."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if (run.data_set, run.meaningful_settings) == (group[0].data_set, group[0].meaningful_settings):
                group.append(run)
                break
        else:
            groups.append([run])
    return [System(min((run.name for run in group), key=len), group) for group in groups]


# -- tables -----------------------------------------------------------------------------------------------------------


def score_data_set(
    systems: list[System], baseline: str | None, metrics_for: Metrics
) -> tuple[dict[str, dict[str, SystemScore]], list[str]]:
    """Scores by system and metric of those systems of a data set that have translations, and the metrics' signatures.

    Significance against `baseline` is tested for the systems with as many runs as that.
    """
    translated = [system for system in systems if all(run.hypotheses is not None for run in system.runs)]
    if not translated:
        return {}, []
    metrics = metrics_for(translated[0].runs[0].sources, translated[0].runs[0].references)
    hypotheses = {system.name: [run.hypotheses for run in system.runs] for system in translated}
    runs = len(hypotheses.get(baseline, []))
    tested = {name: found for name, found in hypotheses.items() if len(found) == runs}
    others = {name: found for name, found in hypotheses.items() if name not in tested}
    found = score_systems(tested, metrics, baseline) if tested else []
    found += score_systems(others, metrics) if others else []
    scores: dict[str, dict[str, SystemScore]] = {system.name: {} for system in translated}
    for score in found:
        scores[score.system][score.metric] = score
    return scores, [f"{name}: {metric.get_signature()}." for name, metric in metrics.items()]


def bleu_and_chrf(references: list[str]) -> dict[str, Metric]:
    """sacrebleu's, for one reference."""
    return {"BLEU": BLEU(references=[references]), "chrF": CHRF(references=[references])}


def results_table(scores: dict[str, dict[str, dict[str, SystemScore]]], baseline: str | None) -> Table:
    """Systems as rows, data sets and metrics as columns, as table 6 of the TIE-KD paper; `scores` by data set."""
    header, cells = ["system"], {}
    for data_set, systems in scores.items():
        metrics = list(dict.fromkeys(metric for found in systems.values() for metric in found))
        title = f"{data_set}: " if len(scores) > 1 else ""
        for metric in metrics:
            header += [f"{title}{metric}", f"{title}difference"] if baseline in systems else [f"{title}{metric}"]
            for name, found in systems.items():
                row = cells.setdefault(name, {})
                row[f"{title}{metric}"] = [figure(found[metric], 2)]
                if baseline in systems:
                    difference = found[metric].mean - systems[baseline][metric].mean
                    row[f"{title}{metric}"].append("" if name == baseline else f"{difference:+.2f}")
    rows = []
    for name, found in cells.items():
        row = [name]
        for data_set, systems in scores.items():
            title = f"{data_set}: " if len(scores) > 1 else ""
            width = 2 if baseline in systems else 1
            for metric in dict.fromkeys(metric for scored in systems.values() for metric in scored):
                row += found.get(f"{title}{metric}", [""] * width)
        rows.append(row)
    return Table(header, rows)


def costs_table(systems: list[System]) -> Table:
    """What each system is and takes."""
    columns: dict[str, Callable[[Run], float | int | None]] = {
        "parameters": lambda run: run.parameters,
        "updates": lambda run: run.updates,
        "training, minutes": lambda run: run.training_seconds / 60,
        "seconds an update": lambda run: run.seconds_per_update,
        "tokens an update": lambda run: run.tokens_per_update,
        "decoding, sentences/s": lambda run: run.decoding_sentences_per_second,
        "agreement with the teacher, %": lambda run: run.agreement and run.agreement["teacher_agreement"],
    }
    several = len({system.data_set for system in systems}) > 1
    rows = []
    for system in systems:
        means = [system.mean(measure) for measure in columns.values()]
        name = f"{system.data_set}: {system.name}" if several else system.name
        rows.append([name, str(len(system.runs)), *(number(mean) for mean in means)])
    return Table(["system", "runs", *columns], rows)


def settings_table(systems: list[System]) -> Table:
    """The settings in which the systems differ, a row for each."""
    different = settings_that_differ([system.runs[0] for system in systems])
    rows = [[name, *map(_setting, found)] for name, found in different.items()]
    return Table(["setting", *(system.name for system in systems)], rows)


def _setting(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_SETTING else f"…{text[-LONGEST_SETTING:]}"


# -- plots ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plot:
    """A figure with its file name and what is to be read under it."""

    name: str
    caption: str
    figure: object


def _draw_curves(axes, curves: dict[str, list[list[Point]]], looks: dict[str, dict], place: Callable[[Point], float]):
    """A line for each run, one entry in the legend for each system, in the order in which the lines end."""
    lines = {}
    for name, runs in curves.items():
        look = {**looks[name], "marker": None}
        for points in runs:
            (lines[name],) = axes.plot([place(point) for point in points], [point.value for point in points], **look)
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


def learning_curves(systems: list[System], looks: dict[str, dict]) -> list[Plot]:
    """What validation measured, against updates and against time."""
    titles = {
        "bleu": ("validation BLEU", "BLEU of the validation set, as training measured it."),
        "nll_loss": (
            "validation loss, bits a token",
            "Negative log-likelihood of the validation set, without smoothing.",
        ),
        "teacher_agreement": (
            "agreement with the teacher, %",
            "Validation tokens for which student and teacher have the same first choice, under teacher forcing.",
        ),
    }
    plots = []
    for measure, (label, caption) in titles.items():
        curves = {system.name: [run.curve(measure) for run in system.runs] for system in systems}
        curves = {name: runs for name, runs in curves.items() if all(runs)}
        if not curves:
            continue
        figure_, (left, right) = pyplot().subplots(1, 2, figsize=(9, 3.2), sharey=True)
        _draw_curves(left, curves, looks, lambda point: point.updates)
        _draw_curves(right, curves, looks, lambda point: point.seconds / 60)
        left.get_legend().remove()
        left.set_xlabel("updates")
        right.set_xlabel("minutes of training, without validation")
        left.set_ylabel(label)
        plots.append(
            Plot(f"curve_{measure}", f"{caption} Values of the first third of the training may lie outside.", figure_)
        )
    return plots


def training_losses(systems: list[System], looks: dict[str, dict]) -> list[Plot]:
    """The two halves of the objective in training."""
    labels = {"ce_loss": "smoothed cross-entropy, bits a token", "kd_loss": "distillation term, bits a token"}
    found = {
        measure: {system.name: [run.curve(measure, "train_inner") for run in system.runs] for system in systems}
        for measure in labels
    }
    found = {measure: {name: runs for name, runs in curves.items() if all(runs)} for measure, curves in found.items()}
    if not all(found.values()):
        return []
    figure_, both = pyplot().subplots(1, 2, figsize=(9, 3.2))
    for axes, (measure, curves) in zip(both, found.items(), strict=True):
        _draw_curves(axes, curves, looks, lambda point: point.updates)
        axes.set_xlabel("updates")
        axes.set_ylabel(labels[measure])
    both[0].get_legend().remove()
    caption = "The terms of the training objective. Methods define the distillation term differently; compare shapes."
    return [Plot("training_losses", caption, figure_)]


def trade_off(systems: list[System], scores: dict[str, dict[str, SystemScore]], looks: dict[str, dict]) -> list[Plot]:
    """BLEU against size and decoding speed."""
    measures = {
        "parameters": lambda run: run.parameters,
        "decoding, sentences a second": lambda run: run.decoding_sentences_per_second,
    }
    scored = [system for system in systems if system.name in scores and system.mean(measures["parameters"])]
    if not scored:
        return []
    figure_, both = pyplot().subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axes, (label, measure) in zip(both, measures.items(), strict=True):
        for system in scored:
            place, score = system.mean(measure), scores[system.name]["BLEU"]
            if place is not None:
                look = {**looks[system.name], "linestyle": "none"}
                axes.errorbar([place], [score.mean], yerr=score.deviation, label=system.name, markersize=7, **look)
        logarithmic(axes)
        axes.set_xlabel(label)
    both[0].set_ylabel("test BLEU")
    handles, names = both[0].get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda index: -scores[names[index]]["BLEU"].mean)
    both[1].legend(
        [handles[i] for i in order], [names[i] for i in order], loc="center left", bbox_to_anchor=(1.02, 0.5)
    )
    return [Plot("trade_off", "Quality against size and against decoding speed on the machine that decoded.", figure_)]


# -- the page ---------------------------------------------------------------------------------------------------------

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; text-align: right; white-space: nowrap; }
td { border-top: 1px solid #ddd; } tbody th { border-top: 1px solid #ddd; font-weight: normal; }
th:first-child { text-align: left; }
thead th { border-bottom: 1.5px solid #111; vertical-align: bottom; white-space: normal; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption, .note { color: #444; font-size: 0.88rem; }
@media print { h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""


def write_report(runs: list[Run], folder: Path, baseline: str | None, metrics_for: Metrics) -> Path:
    """Write index.html, which needs no other file and no network, and its plots as PNGs, into `folder`.

    `baseline` names the system that the others are compared with; by default `plain`, where there is one. Returns the
    page's path. Raises UserError for a folder that is no run, and a baseline that is none of the systems.
    """
    systems = systems_of(runs)
    names = [system.name for system in systems]
    if baseline is not None and baseline not in names:
        raise UserError(f"the baseline {baseline!r} is none of the systems ({', '.join(dict.fromkeys(names))})")
    baseline = baseline or ("plain" if "plain" in names else None)
    by_data_set = {
        data_set: [system for system in systems if system.data_set == data_set]
        for data_set in dict.fromkeys(system.data_set for system in systems)
    }
    scores, signatures = {}, []
    for data_set, found in by_data_set.items():
        scores[data_set], signatures = score_data_set(found, baseline, metrics_for)
    looks = dict(zip(dict.fromkeys(names), styles(), strict=False))
    sections = [("Results", as_html(results_table(scores, baseline)), _note_on_results(signatures, baseline))]
    sections.append(("Size, time and agreement", as_html(costs_table(systems)), _NOTE_ON_COSTS))
    folder.mkdir(parents=True, exist_ok=True)
    for data_set, found in by_data_set.items():
        prefix = f"{data_set}_" if len(by_data_set) > 1 else ""
        plots = (
            learning_curves(found, looks) + training_losses(found, looks) + trade_off(found, scores[data_set], looks)
        )
        figures = ""
        for plot in plots:
            (folder / f"{prefix}{plot.name}.png").write_bytes(as_png(plot.figure))
            picture = base64.b64encode(as_svg(plot.figure)).decode()
            figures += (
                f'<figure><img alt="{html.escape(plot.caption)}" src="data:image/svg+xml;base64,{picture}">'
                f"<figcaption>{html.escape(plot.caption)}</figcaption></figure>\n"
            )
        sections.append((f"Learning and trade-offs, {data_set}", figures, ""))
        sections.append((f"Settings that differ, {data_set}", as_html(settings_table(found)), _NOTE_ON_SETTINGS))
    pyplot().close("all")
    page = folder / "index.html"
    page.write_text(_page(sections), encoding="utf-8")
    return page


_NOTE_ON_COSTS = (
    "Minutes are of training alone, over all restarts; seconds an update are the median. Figures of different "
    "machines, or of a machine that did other work as well, do not compare."
)
_NOTE_ON_SETTINGS = "Everything else was the same. An empty cell: the system has no such setting."


def _note_on_results(signatures: list[str], baseline: str | None) -> str:
    text = " ".join([*signatures, "± is the standard deviation over runs with different seeds."])
    if baseline:
        text += (
            f" Differences and tests are against {baseline}: ** p < 0.01, * p < 0.05, by paired bootstrap (1,000 "
            "samples) and by approximate randomisation (10,000 trials), the higher of the two."
        )
    return text


def _page(sections: list[tuple[str, str, str]]) -> str:
    body = ""
    for title, content, note in sections:
        body += f'<h2>{html.escape(title)}</h2>\n<div class="wide">{content}</div>\n'
        body += f'<p class="note">{html.escape(note)}</p>\n' if note else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Distillation report</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>Distillation report</h1>\n{body}"
        f'<p class="note">nmt-kd {nmt_kd.__version__}</p>\n</body></html>\n'
    )
