"""The tables of a report: scores, costs, and the settings that differ."""

from collections.abc import Callable

from sacrebleu.metrics.base import Metric

from nmt_kd.evaluation.runs import Run, settings_that_differ
from nmt_kd.evaluation.scores import SystemScore, format_score, score_systems
from nmt_kd.evaluation.systems import System
from nmt_kd.evaluation.tables import Table, number

Metrics = Callable[[list[str], list[str]], dict[str, Metric]]  # from sources and references to metrics by name
Scores = dict[str, dict[str, SystemScore]]  # by system and metric

LONGEST_SETTING = 36  # characters; longer values are mostly paths, of which the end is shown


def score_data_set(systems: list[System], baseline: str | None, metrics_for: Metrics) -> tuple[Scores, list[str]]:
    """Score the systems of a data set that have translations; also return the signatures of the metrics.

    Systems with as many runs as `baseline` are tested for significance against it.
    """
    hypotheses = {
        system.name: runs for system in systems if (runs := system.values(lambda run: run.hypotheses)) is not None
    }
    translated = [system for system in systems if system.name in hypotheses]
    if not translated:
        return {}, []
    metrics = metrics_for(translated[0].runs[0].sources, translated[0].runs[0].references)
    baseline_runs = len(hypotheses.get(baseline, [])) if baseline else 0
    tested = {name: runs for name, runs in hypotheses.items() if len(runs) == baseline_runs}
    others = {name: runs for name, runs in hypotheses.items() if name not in tested}
    found = score_systems(tested, metrics, baseline) if tested else []
    found += score_systems(others, metrics) if others else []
    scores: Scores = {name: {} for name in hypotheses}
    for score in found:
        scores[score.system][score.metric] = score
    return scores, [f"{name}: {metric.get_signature()}." for name, metric in metrics.items()]


def results_table(scores: dict[str, Scores], baseline: str | None) -> Table:
    """Return a table with a row per system and a column per data set and metric, as in table 6 of the TIE-KD paper.

    `scores` is keyed by data set. Where the baseline has scores, each column is followed by the difference from it.
    """
    header = ["system"]
    rows = {name: [name] for systems in scores.values() for name in systems}
    for data_set, systems in scores.items():
        prefix = f"{data_set}: " if len(scores) > 1 else ""
        compared = baseline if baseline in systems else None
        for metric in dict.fromkeys(metric for found in systems.values() for metric in found):
            header += [f"{prefix}{metric}", f"{prefix}difference"] if compared else [f"{prefix}{metric}"]
            for name, row in rows.items():
                row += _score_cells(systems, name, metric, compared)
    return Table(header, list(rows.values()))


def _score_cells(scores: Scores, name: str, metric: str, baseline: str | None) -> list[str]:
    if name not in scores:
        return [""] * (2 if baseline else 1)
    score = scores[name][metric]
    if baseline is None:
        return [format_score(score, 2)]
    difference = score.mean - scores[baseline][metric].mean
    return [format_score(score, 2), "" if name == baseline else f"{difference:+.2f}"]


def costs_table(systems: list[System]) -> Table:
    """Return a table of the size, speed and training time of each system."""
    columns: dict[str, Callable[[Run], float | None]] = {
        "parameters": lambda run: run.parameters,
        "updates": lambda run: run.updates,
        "training, minutes": lambda run: run.training_seconds / 60,
        "seconds per update": lambda run: run.seconds_per_update,
        "tokens per update": lambda run: run.tokens_per_update,
        "decoding, sentences/s": lambda run: run.decoding_sentences_per_second,
        "agreement with the teacher, %": lambda run: run.agreement["teacher_agreement"] if run.agreement else None,
    }
    several = len({system.data_set for system in systems}) > 1
    rows = []
    for system in systems:
        means = [system.mean(measure) for measure in columns.values()]
        name = f"{system.data_set}: {system.name}" if several else system.name
        rows.append([name, str(len(system.runs)), *(number(mean) for mean in means)])
    return Table(["system", "runs", *columns], rows)


def settings_table(systems: list[System]) -> Table:
    """Return a table with a row for each setting in which the systems differ."""
    different = settings_that_differ([system.runs[0] for system in systems])
    rows = [[name, *map(_setting, found)] for name, found in different.items()]
    return Table(["setting", *(system.name for system in systems)], rows)


def _setting(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_SETTING else f"…{text[-LONGEST_SETTING:]}"
