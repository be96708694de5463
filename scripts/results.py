"""Print a table of the systems trained on a data set, from the results of their training and evaluation.

    python scripts/results.py runs/multi30k teacher plain word_kd

Test sets after the first, in translations.NAME.txt, get extra columns. A dash means that a figure was not measured,
such as the agreement with a teacher that has no checkpoint. Also writes the table to results.md and results.json in
the same folder. Training speed is in target tokens per second, decoding speed in sentences per second, both as
measured during the runs. For significance tests and learning curves, use nmt-kd report.
"""

import argparse
import json
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.errors import UserError
from nmt_kd.evaluation.runs import Run
from nmt_kd.evaluation.tables import Table, as_markdown, number

AGREEMENT = "agreement with the teacher"
COLUMNS = {
    "system": "system",
    "parameters": "parameters",
    "bleu": "BLEU",
    "chrf": "chrF",
    "teacher_agreement": f"{AGREEMENT}, %",
    "updates": "updates",
    "seconds_per_update": "training, seconds per update",
    "training_tokens_per_second": "training, tokens/s",
    "training_minutes": "training, minutes",
    "decoding_sentences_per_second": "decoding, sentences/s",
}


def read_system(run: Run) -> dict:
    """Return all columns of a system's row."""
    if run.hypotheses is None:
        raise UserError(f"{run.folder} is not evaluated yet; run: bash scripts/evaluate.sh {run.data_set} {run.name}")
    return {
        "system": run.name,
        "parameters": run.parameters,
        "updates": run.updates,
        "seconds_per_update": run.seconds_per_update,
        "training_tokens_per_second": run.tokens_per_update / run.seconds_per_update,
        "training_minutes": run.training_seconds / 60,
        "bleu": BLEU().corpus_score(run.hypotheses, [run.references]).score,
        "chrf": CHRF().corpus_score(run.hypotheses, [run.references]).score,
        "teacher_agreement": run.agreement and run.agreement["teacher_agreement"],
        "decoding_sentences_per_second": run.decoding_sentences_per_second,
    }


def read_more_test_sets(run: Run) -> dict[str, float]:
    """Return BLEU, chrF and agreement on all test sets but the first, by the heading of the column."""
    scores = {}
    for name, evaluation in list(run.evaluations.items())[1:]:
        if evaluation.hypotheses is not None:
            scores[f"BLEU, {name}"] = BLEU().corpus_score(evaluation.hypotheses, [evaluation.references]).score
            scores[f"chrF, {name}"] = CHRF().corpus_score(evaluation.hypotheses, [evaluation.references]).score
        if evaluation.teacher_agreement is not None:
            scores[f"{AGREEMENT}, {name}, %"] = evaluation.teacher_agreement
    return scores


def with_more_test_sets(rows: list[dict]) -> dict[str, Callable[[dict], float | None]]:
    """Return a function that reads a column from a row, by heading; further test sets follow the first one."""
    more = list(dict.fromkeys(heading for row in rows for heading in row["more_test_sets"]))
    columns: dict[str, Callable[[dict], float | None]] = {}
    for name, heading in COLUMNS.items():
        columns[heading] = itemgetter(name)
        for further in more:
            if name == ("teacher_agreement" if further.startswith(AGREEMENT) else "chrf"):
                columns[further] = lambda row, further=further: row["more_test_sets"].get(further)
    return columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("systems", nargs="+")
    args = parser.parse_args()
    try:
        runs = [Run(args.work / system) for system in args.systems]
        rows = [{**read_system(run), "more_test_sets": read_more_test_sets(run)} for run in runs]
    except UserError as error:
        raise SystemExit(f"results.py: error: {error}") from None
    columns = with_more_test_sets(rows)
    cells = [[row["system"], *(number(value(row)) for value in list(columns.values())[1:])] for row in rows]
    table = as_markdown(Table(list(columns), cells)) + "\n"
    (args.work / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (args.work / "results.md").write_text(table, encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main()
