"""Print a table that compares methods over several seeds: scores, significance, agreement, calibration and cost.

    python scripts/comparison.py runs/multi30k plain word_kd tie_kd [--json FILE]
    python scripts/comparison.py --from FILE

The runs of a system are the folders NAME, NAME.seed2, NAME.seed3 and so on, as scripts/experiment.sh names them; those
that are not evaluated are left out. The first command also writes the figures to runs/multi30k/comparison.json, or to
another FILE; the second prints the table of such a file.

- All test sets are pooled. p-values are the larger of those of the paired bootstrap and approximate randomisation,
  against the systems named by --baselines, over as many runs as both systems have, the first ones of each.
- The calibration error is that of the most probable word at each position, as the mean of the test sets' errors,
  weighted by their tokens.
- The cost is CPU time, relative to the baseline's: training with validation, and writing the stores and decoding the
  corpora that a system is trained on, but not training the teacher. Other load changes it, by up to a half.
- The time to the baseline's loss is the CPU time until the validation loss is that of the fully trained baseline, the
  highest of its runs, relative to the baseline's own; a dash means that not every run of the system reaches it.
"""

import argparse
import json
import logging
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from nmt_kd.errors import UserError
from nmt_kd.evaluation.metrics import bleu_and_chrf
from nmt_kd.evaluation.runs import Point, Run
from nmt_kd.evaluation.scores import score_systems
from nmt_kd.evaluation.tables import NONE, Table, as_markdown, number

TRIALS = 1000  # of each significance test
METRICS = ("BLEU", "chrF")
BASELINES = ["plain", "word_kd"]  # by default; the second may be missing


def runs_of(work: Path, system: str) -> list[Run]:
    """Return the evaluated runs of a system, in the order of their seeds."""
    folders = [work / system, *sorted(work.glob(f"{system}.seed*"), key=lambda path: (len(path.name), path.name))]
    return [Run(folder) for folder in folders if (folder / "translations.txt").is_file()]


def check_test_sets(runs: list[Run]) -> None:
    """Raise UserError if a run lacks the translations of a test set that another run has."""
    test_sets = sorted({name for run in runs for name in run.evaluations})
    for run in runs:
        for name in test_sets:
            if name not in run.evaluations or run.evaluations[name].hypotheses is None:
                raise UserError(f"{run.folder} is not evaluated on test set {name}; rerun scripts/evaluate.sh")


def pooled(run: Run, what: str) -> list[str]:
    """Return the hypotheses or references of all test sets of a run."""
    return [line for evaluation in run.evaluations.values() for line in getattr(evaluation, what) or []]


# -- figures ----------------------------------------------------------------------------------------------------------


def training_cost(run: Run) -> dict[str, float]:
    """Return what scripts/measure.py recorded of a training."""
    return json.loads((run.folder / "records/cost.json").read_text(encoding="utf-8"))


def preparation_records(run: Run) -> list[Path]:
    """Return the cost records of the stores and corpora that a run was trained on."""
    paid = run.folder / "records/paid"
    lines = paid.read_text(encoding="utf-8").splitlines() if paid.is_file() else []
    return [Path(line) for line in dict.fromkeys(lines) if line]


def preparation_seconds(run: Run) -> float:
    """Return the CPU seconds of making the stores and corpora that a run was trained on."""
    return sum(json.loads(file.read_text(encoding="utf-8"))["cpu_seconds"] for file in preparation_records(run))


def has_costs(run: Run) -> bool:
    """Tell whether all costs of a run were recorded; those of imported translations, for example, are not."""
    return all(file.is_file() for file in (run.folder / "records/cost.json", *preparation_records(run)))


def share_until(curve: list[Point], loss: float) -> float | None:
    """Return the share of the updates after which the loss is reached, between two points of the curve; None: never."""
    before: Point | None = None
    for point in curve:
        if point.value <= loss:
            if before is None:
                return point.updates / curve[-1].updates
            way = (before.value - loss) / (before.value - point.value)
            return (before.updates + way * (point.updates - before.updates)) / curve[-1].updates
        before = point
    return None


def cpu_seconds(run: Run, share: float = 1.0) -> float:
    """Return the CPU seconds of a share of a run's training and of all that was made for it."""
    return share * training_cost(run)["cpu_seconds"] + preparation_seconds(run)


def mean_seconds_to(loss: float, runs: list[Run]) -> float | None:
    """Return the mean CPU seconds until the runs reach a validation loss; None unless all do."""
    seconds = []
    for run in runs:
        share = share_until(run.curve("loss"), loss)
        if share is None:
            return None
        seconds.append(cpu_seconds(run, share))
    return statistics.mean(seconds)


def mean_of(runs: list[Run], measure: Callable[[Run], float | None]) -> float | None:
    """Return the mean over those runs for which the measure exists."""
    values = [value for run in runs if (value := measure(run)) is not None]
    return statistics.mean(values) if values else None


def agreement(name: str) -> Callable[[Run], float | None]:
    """Return a function that averages a figure of `nmt-kd agreement` over the tokens of all test sets of a run."""

    def measure(run: Run) -> float | None:
        found = [evaluation.agreement for evaluation in run.evaluations.values()]
        if not all(each and each.get(name) is not None for each in found):
            return None
        return sum(each[name] * each["tokens"] for each in found) / sum(each["tokens"] for each in found)

    return measure


def row(system: str, runs: list[Run], base: list[Run]) -> dict:
    """Return the figures of a system, relative to the runs `base` of the baseline, without significance."""
    references = pooled(runs[0], "references")
    scores = {
        name: [metric.corpus_score(pooled(run, "hypotheses"), references=None).score for run in runs]
        for name, metric in bleu_and_chrf(references).items()
    }
    figures = {
        "system": system,
        "runs": len(runs),
        "updates": runs[0].updates,
        "parameters": runs[0].parameters,
        "scores": scores,
        "agreement": mean_of(runs, agreement("teacher_agreement")),
        "calibration_error": mean_of(runs, agreement("student_calibration_error")),
        "cost": None,
        "time_to_baseline": None,
        "memory_mb": None,
    }
    if not all(has_costs(run) for run in (*runs, *base)):
        return figures
    seconds, base_seconds = (statistics.mean(map(cpu_seconds, found)) for found in (runs, base))
    curves = [run.curve("loss") for run in base]
    loss = max(curve[-1].value for curve in curves) if all(curves) else -math.inf  # trained without validation
    to_loss, base_to_loss = (mean_seconds_to(loss, found) for found in (runs, base))
    return {
        **figures,
        "cost": seconds / base_seconds,
        "time_to_baseline": to_loss and base_to_loss and to_loss / base_to_loss,
        "memory_mb": mean_of(runs, lambda run: training_cost(run)["peak_mb"]),
    }


def p_values(runs: dict[str, list[Run]], baseline: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each other system and its p-value by metric, over as many runs as both have, the first ones of each."""
    base = runs[baseline]
    metrics = bleu_and_chrf(pooled(base[0], "references"))
    for count in sorted({min(len(found), len(base)) for found in runs.values()}):
        group = {name: found for name, found in runs.items() if min(len(found), len(base)) == count or name == baseline}
        systems = {name: [pooled(run, "hypotheses") for run in found[:count]] for name, found in group.items()}
        if len(systems) == 1:
            continue
        for score in score_systems(systems, metrics, baseline, TRIALS, TRIALS):
            if score.bootstrap_p is not None and score.randomisation_p is not None:
                yield score.system, {score.metric: max(score.bootstrap_p, score.randomisation_p)}


def compare(work: Path, systems: list[str], baselines: list[str] | None = None) -> list[dict]:
    """Return the figures of all systems that have been evaluated; the first baseline is that of the costs.

    By default, the baselines are `BASELINES`. Raises UserError if a baseline is not among the systems, except for the
    second default one, or if a test set of a run has not been translated.
    """
    runs = {system: found for system in systems if (found := runs_of(work, system))}
    for baseline in baselines or BASELINES[:1]:
        if baseline not in systems:
            raise UserError(f"the baseline {baseline} is not among the systems; add it, or choose another")
        if baseline not in runs:
            raise UserError(
                f"{work / baseline} is not evaluated yet; run: bash scripts/evaluate.sh {work.name} {baseline}"
            )
    check_test_sets([run for found in runs.values() for run in found])
    baselines = baselines or [baseline for baseline in BASELINES if baseline in runs]
    rows = {system: row(system, found, runs[baselines[0]]) for system, found in runs.items()}
    for baseline in baselines:
        for system, found in p_values(runs, baseline):
            rows[system].setdefault("p", {}).setdefault(baseline, {}).update(found)
    return list(rows.values())


# -- the table --------------------------------------------------------------------------------------------------------


def mean_and_deviation(values: list[float]) -> str:
    """Format scores as their mean and, if there are several, their standard deviation."""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def table(rows: list[dict]) -> Table:
    """Return the table of figures; a dash is a figure that does not exist or was not measured."""
    tested_against = {name for each in rows for name in each.get("p", {})}
    baselines = [each["system"] for each in rows if each["system"] in tested_against]
    header = ["system", "seeds", *METRICS]
    header += [f"p against {baseline}, BLEU / chrF" for baseline in baselines]
    header += ["agreement, %", "calibration error, %", "cost", "time to the baseline's loss", "memory, MB"]
    cells = []
    for each in rows:
        line = [each["system"], str(each["runs"]), *(mean_and_deviation(each["scores"][name]) for name in METRICS)]
        for baseline in baselines:
            found = each.get("p", {}).get(baseline)
            line.append(" / ".join(f"{found[name]:.3f}" for name in METRICS) if found else NONE)
        line += [number(each[name]) for name in ("agreement", "calibration_error", "cost", "time_to_baseline")]
        line.append(number(each["memory_mb"] and round(each["memory_mb"])))
        cells.append(line)
    return Table(header, cells)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, nargs="?", help="folder of a data set with its runs")
    parser.add_argument("systems", nargs="*", help="names of systems")
    parser.add_argument("--baselines", nargs="+", help=f"(default: {' '.join(BASELINES)})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")
    parser.add_argument("--from", dest="stored", type=Path, metavar="FILE", help="print the table of these figures")
    args = parser.parse_args(arguments)
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    if args.stored:
        rows = json.loads(args.stored.read_text(encoding="utf-8"))
    elif args.work and args.systems:
        try:
            rows = compare(args.work, args.systems, args.baselines)
        except UserError as error:
            raise SystemExit(f"comparison.py: error: {error}") from None
        output = args.json or args.work / "comparison.json"
        output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    else:
        parser.error("name a folder and systems, or give stored figures with --from")
    print(as_markdown(table(rows)))


if __name__ == "__main__":
    main()
