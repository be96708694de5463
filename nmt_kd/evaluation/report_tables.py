"""The tables of a report: scores, costs, and the settings that differ."""

from collections.abc import Callable

from sacrebleu.metrics.base import Metric

from nmt_kd.evaluation.evaluations import FIRST, Evaluation
from nmt_kd.evaluation.runs import Run, settings_that_differ
from nmt_kd.evaluation.scores import SystemScore, format_score, score_systems
from nmt_kd.evaluation.systems import System
from nmt_kd.evaluation.tables import NONE, Table, number

Metrics = Callable[[list[str], list[str]], dict[str, Metric]]  # from sources and references to metrics by name
Scores = dict[str, dict[str, SystemScore]]  # by system and metric


def translated(systems: list[System], test_set: str) -> tuple[dict[str, list[Evaluation]], list[str]]:
    """Return the results of the systems that have translated the test set, by system and run, and notes on the others.

    A system whose test set has fewer sentences than another's is left out, because their scores are not comparable.
    """
    found = {system.name: results for system in systems if (results := system.evaluations(test_set)) is not None}
    sizes = {name: min(len(result.references) for result in results) for name, results in found.items()}
    longest = max(sizes.values(), default=0)
    notes = [
        f"{name} has translated {size} sentences of {test_set}, but other systems {longest}; its scores are left out"
        for name, size in sizes.items()
        if size < longest
    ]
    return {name: results for name, results in found.items() if sizes[name] == longest}, notes


def score_test_set(
    evaluations: dict[str, list[Evaluation]], baseline: str | None, metrics_for: Metrics
) -> tuple[Scores, list[str]]:
    """Score the systems' translations of a test set; also return the signatures of the metrics.

    Systems with as many runs as `baseline` are tested for significance against it.
    """
    if not evaluations:
        return {}, []
    first = next(iter(evaluations.values()))[0]
    metrics = metrics_for(first.sources, first.references)
    hypotheses = {name: [run.hypotheses or [] for run in runs] for name, runs in evaluations.items()}
    others = {name: hypotheses[name] for name in untested(evaluations, baseline)}
    tested = {name: runs for name, runs in hypotheses.items() if name not in others}
    found = score_systems(tested, metrics, baseline) if tested else []
    found += score_systems(others, metrics) if others else []
    scores: Scores = {name: {} for name in hypotheses}
    for score in found:
        scores[score.system][score.metric] = score
    return scores, [f"{name}: {metric.get_signature()}." for name, metric in metrics.items()]


def untested(evaluations: dict[str, list[Evaluation]], baseline: str | None) -> list[str]:
    """Return the systems that cannot be tested against `baseline`: those with more or fewer runs, or all without it."""
    runs = len(evaluations.get(baseline, [])) if baseline else 0
    return [name for name, results in evaluations.items() if len(results) != runs]


def results_table(names: list[str], scores: dict[str, Scores], baseline: str | None) -> Table:
    """Return a table with a row per system and a column per data set and metric, as in table 6 of the TIE-KD paper.

    `scores` is keyed by data set. Where the baseline has scores, each column is followed by the difference from it.
    """
    header = ["system"]
    rows = {name: [name] for name in names}
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
        return [NONE] * (2 if baseline else 1)
    score = scores[name][metric]
    if baseline is None:
        return [format_score(score, 2)]
    difference = score.mean - scores[baseline][metric].mean
    return [format_score(score, 2), "" if name == baseline else f"{difference:+.2f}"]


def costs_table(systems: list[System]) -> Table:
    """Return a table of the size, speed, training time and agreement of each system."""
    columns: dict[str, Callable[[Run], float | None]] = {
        "parameters": lambda run: run.parameters,
        "updates": lambda run: run.updates,
        "training, minutes": lambda run: run.training_seconds / 60,
        "seconds per update": lambda run: run.seconds_per_update,
        "tokens per update": lambda run: run.tokens_per_update,
        "decoding, sentences/s": lambda run: run.decoding_sentences_per_second,
    }
    title = "agreement with the teacher, %"
    for test_set in dict.fromkeys([FIRST, *(test_set for system in systems for test_set in system.test_sets)]):
        measure = _agreement_on(test_set)
        if test_set == FIRST or any(system.mean(measure) is not None for system in systems):
            columns[title if test_set == FIRST else f"{title}, {test_set}"] = measure
    several = len({system.data_set for system in systems}) > 1
    rows = []
    for system in systems:
        means = [system.mean(measure) for measure in columns.values()]
        name = f"{system.data_set}: {system.name}" if several else system.name
        rows.append([name, str(len(system.runs)), *(number(mean) for mean in means)])
    return Table(["system", "runs", *columns], rows)


def _agreement_on(test_set: str) -> Callable[[Run], float | None]:
    def measure(run: Run) -> float | None:
        return run.evaluations[test_set].teacher_agreement if test_set in run.evaluations else None

    return measure


def settings_table(systems: list[System]) -> Table:
    """Return a table with a row for each setting in which the systems differ, if their settings are known."""
    known = [system for system in systems if system.values(lambda run: run.settings)]
    different = settings_that_differ([system.runs[0] for system in known])
    rows = [[name, *("" if value is None else str(value) for value in found)] for name, found in different.items()]
    return Table(["setting", *(system.name for system in known)], rows)
