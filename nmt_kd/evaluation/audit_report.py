"""Compares the audits of several systems with that of a baseline, as a table and for JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from nmt_kd.evaluation.audited import AuditedRun
from nmt_kd.evaluation.paired import mcnemar
from nmt_kd.evaluation.scores import MARKS
from nmt_kd.evaluation.tables import NONE, Table

TITLES = {
    "exact_match": "exact matches, %",
    "extractive_memorisation": "extractive memorisation, %",
    "extractive_share": "extractive memorisation, % of eligible exact matches",
    "oscillatory_hallucination": "oscillatory hallucinations, %",
    "repeated_4_grams": "repeated 4-grams, %",
    "bleu": "BLEU",
    "bleu_noised": "BLEU on noised sources",
    "bleu_loss": "BLEU lost to noise",
    "chrf": "chrF",
    "chrf_noised": "chrF on noised sources",
    "chrf_loss": "chrF lost to noise",
}


@dataclass(frozen=True)
class Figure:
    """A measure of a system, in % or points, and how it differs from the baseline's."""

    runs: list[float | None]  # None where there was nothing to measure
    mean: float | None = None
    deviation: float | None = None  # the sample standard deviation; None for a single run
    ratio: float | None = None  # to the baseline's mean
    p: float | None = None  # the largest of the runs, compared with the baseline's in pairs

    @classmethod
    def of(cls, runs: list[float | None], baseline: "Figure | None" = None, p: float | None = None) -> "Figure":
        """Summarise the runs; the ratio to the `baseline` is None if that is 0."""
        known = [value for value in runs if value is not None]
        mean = statistics.mean(known) if len(known) == len(runs) else None
        deviation = statistics.stdev(known) if mean is not None and len(runs) > 1 else None
        ratio = mean / baseline.mean if mean is not None and baseline and baseline.mean else None
        return cls(runs, mean, deviation, ratio, p)

    def __str__(self) -> str:
        """Format the mean, the deviation, the significance mark and, in parentheses, the ratio to the baseline."""
        if self.mean is None:
            return NONE
        deviation = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        mark = "" if self.p is None else next((f" {mark}" for limit, mark in MARKS if self.p < limit), "")
        ratio = "" if self.ratio is None else f" ({self.ratio:.2f})"
        return f"{self.mean:.2f}{deviation}{mark}{ratio}"


Audit = dict[str, dict[str, Figure]]  # by system and measure


def compare_audits(systems: Mapping[str, Sequence[AuditedRun]], baseline: str | None = None) -> Audit:
    """Return the figures of each system, and compare those that are shares of sentences with the baseline's."""
    plain = {name: _figures(runs) for name, runs in systems.items()}
    if baseline is None:
        return plain
    return {
        name: plain[name] if name == baseline else _figures(runs, plain[baseline], systems[baseline])
        for name, runs in systems.items()
    }


def _figures(
    runs: Sequence[AuditedRun], baseline: dict[str, Figure] | None = None, baseline_runs: Sequence[AuditedRun] = ()
) -> dict[str, Figure]:
    figures = {}
    for name in runs[0].outcomes:
        outcomes = [run.outcomes[name] for run in runs]
        pairs = zip(outcomes, (run.outcomes[name] for run in baseline_runs), strict=True) if baseline_runs else ()
        p = max((mcnemar(*pair) for pair in pairs), default=None)
        figures[name] = Figure.of([_percent(sum(each), len(each)) for each in outcomes], (baseline or {}).get(name), p)
    share = [_percent(sum(run.outcomes["extractive_memorisation"]), run.eligible) for run in runs]
    figures["extractive_share"] = Figure.of(share, (baseline or {}).get("extractive_share"))
    for name in runs[0].scores:
        figures[name] = Figure.of([run.scores[name] for run in runs])
    return {name: figures[name] for name in TITLES if name in figures}


def _percent(count: int, of: int) -> float | None:
    return 100 * count / of if of else None


def as_dict(audit: Audit) -> dict:
    """Return the figures by system and measure, for JSON."""
    return {system: {name: asdict(figure) for name, figure in figures.items()} for system, figures in audit.items()}


def from_dict(figures: dict) -> Audit:
    """Return the audit that `as_dict` wrote."""
    return {system: {name: Figure(**figure) for name, figure in of.items()} for system, of in figures.items()}


def as_table(audit: Audit) -> Table:
    """Return a table with a row for each system, and a column for each measure."""
    measures = list(next(iter(audit.values())))
    rows = [[system, *(str(figures[name]) for name in measures)] for system, figures in audit.items()]
    return Table(["system", *(TITLES[name] for name in measures)], rows)
