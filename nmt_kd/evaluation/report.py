"""Write a report on several training runs: scores, learning curves, costs, translations, and settings that differ."""

from pathlib import Path

from nmt_kd.evaluation import report_html, report_markdown
from nmt_kd.evaluation.drawing import as_png, pyplot, system_styles
from nmt_kd.evaluation.evaluations import FIRST, Evaluation
from nmt_kd.evaluation.examples import TranslatedText, compare
from nmt_kd.evaluation.named_runs import check_known
from nmt_kd.evaluation.report_plots import learning_curves, trade_off, training_losses
from nmt_kd.evaluation.report_tables import (
    Metrics,
    Scores,
    costs_table,
    results_table,
    score_test_set,
    settings_table,
    translated,
    untested,
)
from nmt_kd.evaluation.runs import Run
from nmt_kd.evaluation.sections import Section
from nmt_kd.evaluation.systems import System, systems_of

TEACHER = "teacher"  # shown beside every student's translations
NOTE_ON_COSTS = (
    "Minutes cover training alone, over all restarts; seconds per update are the median. Times are comparable only if "
    "measured on the same machine without other load."
)
NOTE_ON_SETTINGS = "All other settings are the same. An empty cell means that the system has no such setting."
NOTE_ON_EXAMPLES = (
    "Each translation is shown with its sentence-level chrF, and words that are not in the reference are marked. "
    "For a system with several runs, the first run is shown."
)


def write_report(runs: list[Run], folder: Path, baseline: str | None, metrics_for: Metrics) -> Path:
    """Write a self-contained page, index.html, report.md and plots as PNGs into `folder`, and return the page's path.

    `baseline` names the system that the others are compared with; the default is `plain`, if there is such a system.
    Raises UserError if a folder is not a run or the baseline is not one of the systems.
    """
    pyplot()  # fails early if matplotlib is missing
    systems = systems_of(runs)
    names = list(dict.fromkeys(system.name for system in systems))
    if baseline is not None:
        check_known(names, baseline)
    baseline = baseline or ("plain" if "plain" in names else None)
    by_data_set = {
        data_set: [system for system in systems if system.data_set == data_set]
        for data_set in dict.fromkeys(system.data_set for system in systems)
    }
    notes = [problem for system in systems for problem in system.problems]
    results: list[Section] = []
    examples: list[Section] = []
    scores: dict[str, dict[str, Scores]] = {}
    for test_set in dict.fromkeys([FIRST, *(test_set for system in systems for test_set in system.test_sets)]):
        evaluated = {data_set: translated(found, test_set) for data_set, found in by_data_set.items()}
        notes += [note for _, left_out in evaluated.values() for note in left_out]
        found = {data_set: evaluations for data_set, (evaluations, _) in evaluated.items() if evaluations}
        if found:
            section, scores[test_set] = _results(test_set, found, names, baseline, metrics_for)
            results.append(section)
            examples += _examples(test_set, found, baseline)
    costs = Section("Size, time and agreement", [costs_table(systems), NOTE_ON_COSTS, *notes])
    sections = [*results, costs, *examples, *_training(by_data_set, scores.get(FIRST, {}))]
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    page.write_text(report_html.page(sections), encoding="utf-8")
    (folder / "report.md").write_text(report_markdown.page(sections), encoding="utf-8")
    for plot in (part for section in sections for part in section.plots):
        (folder / f"{plot.name}.png").write_bytes(as_png(plot.draw(False)))
    pyplot().close("all")
    return page


def _results(
    test_set: str,
    evaluated: dict[str, dict[str, list[Evaluation]]],
    names: list[str],
    baseline: str | None,
    metrics_for: Metrics,
) -> tuple[Section, dict[str, Scores]]:
    """Return the scores on a test set as a section, and by data set."""
    scores = {}
    for data_set, evaluations in evaluated.items():
        scores[data_set], signatures = score_test_set(evaluations, baseline, metrics_for)
    note = " ".join([*signatures, "± is the standard deviation over runs with different seeds."])
    if any(baseline in systems for systems in scores.values()):
        note += (
            f" Differences and significance are relative to {baseline}: ** p < 0.01, * p < 0.05, in both the paired "
            "bootstrap (1,000 samples) and the approximate randomisation test (10,000 trials)."
        )
        compared = [systems for systems in evaluated.values() if baseline in systems]
        left_out = dict.fromkeys(name for systems in compared for name in untested(systems, baseline))
        if left_out:
            note += f" Not tested, because the number of runs is not that of {baseline}: {', '.join(left_out)}."
    table = results_table(names, scores, baseline)
    return Section("Results" if test_set == FIRST else f"Results, {test_set}", [table, note]), scores


def _examples(test_set: str, evaluated: dict[str, dict[str, list[Evaluation]]], baseline: str | None) -> list[Section]:
    """Return a section for each data set with the translations of a test set to look at first."""
    sections = []
    for data_set, evaluations in evaluated.items():
        first = next(iter(evaluations.values()))[0]
        hypotheses = {name: runs[0].hypotheses or [] for name, runs in evaluations.items()}
        text = TranslatedText(first.languages, first.sources, first.references, hypotheses)
        title = f"Translations side by side, {data_set}" + ("" if test_set == FIRST else f", {test_set}")
        sections.append(Section(title, [NOTE_ON_EXAMPLES, *compare(text, [TEACHER], baseline)]))
    return sections


def _training(by_data_set: dict[str, list[System]], scores: dict[str, Scores]) -> list[Section]:
    """Return sections with the plots and settings of each data set's systems; `scores` are by data set."""
    styles = system_styles(system.name for systems in by_data_set.values() for system in systems)
    sections = []
    for data_set, systems in by_data_set.items():
        plots = learning_curves(systems, styles) + training_losses(systems, styles)
        plots += trade_off(systems, scores.get(data_set, {}), styles)
        prefix = f"{data_set}_" if len(by_data_set) > 1 else ""
        sections.append(Section(f"Learning and trade-offs, {data_set}", [plot.prefixed(prefix) for plot in plots]))
        sections.append(Section(f"Settings that differ, {data_set}", [settings_table(systems), NOTE_ON_SETTINGS]))
    return sections
