"""The HTML page that compares an exported student's cost and quality with the teacher's, with samples."""

from dataclasses import replace

import numpy

from nmt_kd.evaluation import examples, report_html
from nmt_kd.evaluation.metrics import bleu_and_chrf
from nmt_kd.evaluation.scores import as_table, score_systems
from nmt_kd.evaluation.sections import Section
from nmt_kd.evaluation.tables import NONE, Table, number
from nmt_kd.exporting.comparison import TranslationComparison
from nmt_kd.exporting.speed import Performance
from nmt_kd.exporting.summary import Result, Summary

TRIALS = 1000  # of each significance test


def page(summary: Summary, comparison: TranslationComparison, performances: list[Performance]) -> str:
    """Return the page of an export in HTML; the model that the summary recommends comes first."""
    results = {result.system: result for result in summary.results}
    student = next(result for result in summary.results if result.system == summary.recommended)
    other = summary.results[-1] if summary.teacher else summary.results[0]
    texts = {item.system.name: comparison.texts(item.translations) for item in performances}
    runs = {name: [texts[name]] for name in (other.system, *(name for name in results if name != other.system))}
    scores = score_systems(runs, bleu_and_chrf(comparison.references), other.system, TRIALS, TRIALS)
    sections = [
        Section(
            "Use",
            [
                "In this folder: pip install -r requirements.txt, then: python translate.py < source.txt > "
                "translation.txt. Blank lines stay blank, and long lines are translated in parts; translate.py --help "
                "lists the options."
            ],
        ),
        Section(f"The recommended model compared with the {_short(other)}", [_side_by_side(student, other)]),
        Section("All systems", [summary.table, *summary.notes, f"Machine: {summary.machine}."]),
        Section(
            "Scores",
            [
                as_table(scores, {}),
                f"p: paired bootstrap / approximate randomisation against the {_short(other)}, {TRIALS:,} trials each, "
                f"{summary.sentences_measured:,} sentences; ** p < 0.01 and * p < 0.05 in both.",
            ],
        ),
        Section("Samples", [*_samples(comparison, texts, student.system, other.system)]),
    ]
    return report_html.page(sections, f"Export of {summary.checkpoint}")


def _short(result: Result) -> str:
    return result.system.partition(",")[0] if result.system.startswith("teacher") else "student in fairseq"


def _side_by_side(student: Result, other: Result) -> Table:
    """Compare two systems row by row; the last column is the student's share of the other's figure."""

    def row(name: str, unit: str, field: str) -> list[str]:
        values = [getattr(result, field) for result in (student, other)]
        return [f"{name}{unit and f', {unit}'}", *map(number, values), _ratio(*values)]

    rows = [
        row("parameters", "", "parameters"),
        row("size on disk", "MB", "megabytes_on_disk"),
        row("loading", "s", "load_seconds"),
        row("words of the source per second", "", "words_per_second"),
        row("one sentence alone", "ms", "milliseconds_alone"),
        row("BLEU", "", "bleu"),
        row("chrF", "", "chrf"),
    ]
    return Table(["", student.system, other.system, "ratio"], rows)


def _ratio(value: float, other: float) -> str:
    """Format a ratio, which does not exist if the other value is 0."""
    if other == 0:
        return NONE
    return f"{value / other:.2f} x" if value / other >= 2 else f"{100 * value / other:.1f} %"


def _samples(comparison: TranslationComparison, texts: dict[str, list[str]], student: str, other: str) -> list:
    """Return the student's worst translations, and those that differ most from the other system's."""
    numbers = comparison.sample.numbers
    order = numpy.argsort(numbers)
    cfg = comparison.sample.originals.task.cfg
    text = examples.TranslatedText(
        (cfg.source_lang, cfg.target_lang),
        [comparison.sources[index] for index in order],
        [comparison.references[index] for index in order],
        {name: [texts[name][index] for index in order] for name in (other, student)},
    )
    return [
        replace(
            found,
            groups={
                title: [replace(example, number=int(numbers[order[example.number - 1]]) + 1) for example in group]
                for title, group in found.groups.items()
            },
        )
        for found in examples.compare(text, [], other)
    ]
