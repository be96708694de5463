"""Scores of several systems by several metrics, with significance against one of them."""

import logging
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest

from nmt_kd.errors import UserError
from nmt_kd.evaluation.tables import Table

logger = logging.getLogger(__name__)

Runs = list[list[str]]  # the translations of each run of a system
MARKS = ((0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class SystemScore:
    """A system's figures by one metric; the p-values are for the hypothesis that it is as good as the baseline."""

    system: str
    metric: str
    runs: list[float]
    bootstrap_p: float | None = None
    randomisation_p: float | None = None

    @property
    def mean(self) -> float:
        """Over the runs."""
        return statistics.mean(self.runs)

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation over the runs; None for one run."""
        return statistics.stdev(self.runs) if len(self.runs) > 1 else None

    @property
    def mark(self) -> str:
        """`**` where both tests say p < 0.01, `*` where both say p < 0.05."""
        if self.bootstrap_p is None or self.randomisation_p is None:
            return ""
        highest = max(self.bootstrap_p, self.randomisation_p)
        return next((mark for limit, mark in MARKS if highest < limit), "")

    def as_dict(self) -> dict:
        """All figures, for JSON."""
        return {**asdict(self), "mean": self.mean, "deviation": self.deviation}


def score_systems(
    systems: dict[str, Runs],
    metrics: dict[str, Metric],
    baseline: str | None = None,
    bootstrap_samples: int = 1000,
    randomisation_trials: int = 10000,
) -> list[SystemScore]:
    """Score every run of every system by every metric, and test each system against `baseline` where one is named.

    The tests are sacrebleu's paired bootstrap and approximate randomisation. Of several runs the first is tested
    against the baseline's first, the second against its second and so on, and the largest p-value is reported. Raises
    UserError where the baseline is not among the systems or has another number of runs than one of them.
    """
    _check_baseline(systems, baseline)
    scores = []
    for name, metric in metrics.items():
        logger.info(f"scoring {sum(map(len, systems.values()))} files by {name}")
        values = {
            system: [float(metric.corpus_score(run, references=None).score) for run in runs]
            for system, runs in systems.items()
        }
        bootstrap = _p_values(systems, metric, baseline, "bs", bootstrap_samples)
        randomisation = _p_values(systems, metric, baseline, "ar", randomisation_trials)
        scores += [
            SystemScore(system, name, values[system], bootstrap.get(system), randomisation.get(system))
            for system in systems
        ]
    return scores


def _check_baseline(systems: dict[str, Runs], baseline: str | None) -> None:
    if baseline is None:
        return
    if baseline not in systems:
        raise UserError(f"the baseline {baseline!r} is none of the systems ({', '.join(systems)})")
    for system, runs in systems.items():
        if len(runs) != len(systems[baseline]):
            raise UserError(
                f"{system} has {len(runs)} runs, the baseline {baseline} {len(systems[baseline])}; "
                "runs are compared in pairs, so each must have as many"
            )


def _p_values(
    systems: dict[str, Runs], metric: Metric, baseline: str | None, kind: str, samples: int
) -> dict[str, float]:
    others = [system for system in systems if system != baseline]
    if baseline is None or not others:
        return {}
    highest = dict.fromkeys(others, 0.0)
    for run in range(len(systems[baseline])):
        named = [(system, systems[system][run]) for system in (baseline, *others)]
        _, results = PairedTest(named, {"metric": metric}, None, test_type=kind, n_samples=samples)()
        (found,) = [values for name, values in results.items() if name != "System"]
        for system, result in zip(others, found[1:], strict=True):
            highest[system] = max(highest[system], result.p_value)
    return highest


def as_table(scores: Sequence[SystemScore], digits: dict[str, int]) -> Table:
    """A row for each system, and for each metric its mean, the deviation, marks of significance, and both p-values.

    `digits` says how many to show of each metric.
    """
    metrics = list(dict.fromkeys(score.metric for score in scores))
    tested = any(score.bootstrap_p is not None for score in scores)
    by_place = {(score.system, score.metric): score for score in scores}
    header = ["system"]
    for metric in metrics:
        header += [metric, f"p, {metric}"] if tested else [metric]
    rows = []
    for system in dict.fromkeys(score.system for score in scores):
        row = [system]
        for metric in metrics:
            score = by_place[system, metric]
            row.append(figure(score, digits.get(metric, 2)))
            if tested:
                row.append(p_values(score))
        rows.append(row)
    return Table(header, rows)


def figure(score: SystemScore, digits: int) -> str:
    """The mean, the deviation where there are several runs, and the mark of significance."""
    deviation = "" if score.deviation is None else f" ± {score.deviation:.{digits}f}"
    return f"{score.mean:.{digits}f}{deviation}{' ' if score.mark else ''}{score.mark}"


def p_values(score: SystemScore) -> str:
    """Both p-values, of the bootstrap and of the randomisation."""
    if score.bootstrap_p is None:
        return "baseline"
    return f"{score.bootstrap_p:.4f} / {score.randomisation_p:.4f}"
