"""Score several systems with several metrics, and test their differences from a baseline for significance."""

import logging
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy
from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest, Result

from nmt_kd.evaluation.metrics import SumOfRuns
from nmt_kd.evaluation.named_runs import check_baseline
from nmt_kd.evaluation.tables import Table

logger = logging.getLogger(__name__)

Runs = list[list[str]]  # a system's translations, one list for each run
MARKS = ((0.01, "**"), (0.05, "*"))
SEED = 12345  # sacrebleu's
ROUNDING = 1e-9  # of scores that are equal but summed in another order


@dataclass(frozen=True)
class SystemScore:
    """A system's scores under one metric; the null hypothesis of the p-values is that it equals the baseline."""

    system: str
    metric: str
    runs: list[float]
    bootstrap_p: float | None = None
    randomisation_p: float | None = None

    @property
    def mean(self) -> float:
        """The mean over the runs."""
        return statistics.mean(self.runs)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the runs; None for a single run."""
        return statistics.stdev(self.runs) if len(self.runs) > 1 else None

    @property
    def mark(self) -> str:
        """`**` if p < 0.01 in both tests, `*` if p < 0.05 in both."""
        if self.bootstrap_p is None or self.randomisation_p is None:
            return ""
        highest = max(self.bootstrap_p, self.randomisation_p)
        return next((mark for limit, mark in MARKS if highest < limit), "")

    def as_dict(self) -> dict:
        """Return all fields, the mean and the deviation, for JSON."""
        return {**asdict(self), "mean": self.mean, "deviation": self.deviation}


def score_systems(
    systems: dict[str, Runs],
    metrics: dict[str, Metric],
    baseline: str | None = None,
    bootstrap_samples: int = 1000,
    randomisation_trials: int = 10000,
) -> list[SystemScore]:
    """Score every run of every system with every metric, and test each system against the `baseline`, if given.

    The tests are the paired bootstrap and approximate randomisation, with sacrebleu's samples. They sample sentences;
    those of several runs are sampled together, so that a p-value says whether the runs as a whole differ on other
    sentences like these. Unlike in sacrebleu, a trial of the randomisation counts if its difference is at least as
    large as the real one, not only if it is larger, and p is 1 for equal scores, where sacrebleu's p is low.
    Raises UserError if the baseline is not among the systems or differs from one of them in its number of runs.
    """
    check_baseline(systems, baseline)
    scores = []
    for name, metric in metrics.items():
        logger.info(f"scoring {sum(map(len, systems.values()))} files with {name}")
        values = {
            system: [float(metric.corpus_score(run, references=None).score) for run in runs]
            for system, runs in systems.items()
        }
        bootstrap: dict[str, float] = {}
        randomisation: dict[str, float] = {}
        if baseline is not None and len(systems) > 1:
            bootstrap = _bootstrap(systems, metric, baseline, bootstrap_samples)
            randomisation = _randomisation(systems, metric, baseline, randomisation_trials)
        scores += [
            SystemScore(system, name, values[system], bootstrap.get(system), randomisation.get(system))
            for system in systems
        ]
    return scores


def _bootstrap(systems: dict[str, Runs], metric: Metric, baseline: str, samples: int) -> dict[str, float]:
    """Return the p-value of sacrebleu's paired bootstrap for each system but the baseline."""
    others = [system for system in systems if system != baseline]
    named: list[tuple[str, Any]] = [(system, _by_sentence(systems[system])) for system in (baseline, *others)]
    test = PairedTest(named, {"metric": SumOfRuns(metric)}, None, test_type="bs", n_samples=samples)
    (found,) = [values for name, values in test()[1].items() if name != "System"]
    base, *results = found
    assert isinstance(base, Result)
    p_values = {}
    for system, result in zip(others, results, strict=True):
        assert isinstance(result, Result)
        assert result.p_value is not None  # only the baseline's result has none
        is_equal = abs(result.score - base.score) <= ROUNDING
        p_values[system] = 1.0 if is_equal else result.p_value
    return p_values


def _randomisation(systems: dict[str, Runs], metric: Metric, baseline: str, trials: int) -> dict[str, float]:
    """Return the p-value of approximate randomisation for each system but the baseline."""
    others = [system for system in systems if system != baseline]
    summed = SumOfRuns(metric)
    statistics_of = {
        system: numpy.asarray(summed._extract_corpus_statistics(_by_sentence(runs), None))
        for system, runs in systems.items()
    }
    base = statistics_of[baseline]

    def differences(kept: numpy.ndarray, own: numpy.ndarray) -> numpy.ndarray:
        """Return a difference for each row of `kept`, in which false exchanges the two translations of a sentence."""
        pairs = zip(kept @ base + ~kept @ own, ~kept @ base + kept @ own, strict=True)
        scores = [[float(summed._compute_score_from_stats(sums).score) for sums in pair] for pair in pairs]
        return abs(numpy.diff(scores).ravel())

    kept = numpy.random.default_rng(SEED).integers(2, size=(trials, len(base)), dtype=bool)
    p_values = {}
    for system in others:
        own = statistics_of[system]
        (real,) = differences(numpy.ones((1, len(base)), dtype=bool), own)
        extreme = numpy.count_nonzero(differences(kept, own) >= real - ROUNDING)
        p_values[system] = (1 + extreme) / (1 + trials)
    return p_values


def _by_sentence(runs: Runs) -> list[tuple[str, ...]]:
    """Return the translations of each sentence."""
    return list(zip(*runs, strict=True))


def as_table(scores: Sequence[SystemScore], digits: dict[str, int]) -> Table:
    """Return a table with a row for each system: for each metric, mean, deviation, significance mark and p-values.

    `digits` is the number of decimals of each metric, 2 by default.
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
            row.append(format_score(score, digits.get(metric, 2)))
            if tested:
                row.append(format_p_values(score))
        rows.append(row)
    return Table(header, rows)


def format_score(score: SystemScore, digits: int) -> str:
    """Format the mean, the deviation if there are several runs, and the significance mark."""
    deviation = "" if score.deviation is None else f" ± {score.deviation:.{digits}f}"
    return f"{score.mean:.{digits}f}{deviation}{' ' if score.mark else ''}{score.mark}"


def format_p_values(score: SystemScore) -> str:
    """Format the p-values of the bootstrap and of the randomisation."""
    if score.bootstrap_p is None:
        return "baseline"
    return f"{score.bootstrap_p:.4f} / {score.randomisation_p:.4f}"
