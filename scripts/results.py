"""Print a table of the systems trained on a data set, from the results of their training and evaluation.

    python scripts/results.py runs/multi30k teacher plain word_kd

Also writes the table to results.md and results.json in the same folder. Training speed is in target tokens per second,
decoding speed in sentences per second, both as measured during the runs. For significance tests and learning curves,
use nmt-kd report.
"""

import argparse
import json
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.evaluation.runs import Run
from nmt_kd.evaluation.tables import Table, as_markdown, number

COLUMNS = {
    "system": "system",
    "parameters": "parameters",
    "bleu": "BLEU",
    "chrf": "chrF",
    "teacher_agreement": "agreement with the teacher, %",
    "updates": "updates",
    "seconds_per_update": "training, seconds per update",
    "training_tokens_per_second": "training, tokens/s",
    "training_minutes": "training, minutes",
    "decoding_sentences_per_second": "decoding, sentences/s",
}


def read_system(run: Run) -> dict:
    """Return all columns of a system's row."""
    if run.hypotheses is None or run.agreement is None:
        raise SystemExit(f"{run.folder} is not evaluated yet; run: bash scripts/evaluate.sh {run.data_set} {run.name}")
    if len(run.hypotheses) != len(run.references):
        raise SystemExit(
            f"{run.folder} has {len(run.hypotheses)} translations for {len(run.references)} test sentences; "
            f"delete its translations.txt and rerun: bash scripts/evaluate.sh {run.data_set} {run.name}"
        )
    return {
        "system": run.name,
        "parameters": run.parameters,
        "updates": run.updates,
        "seconds_per_update": run.seconds_per_update,
        "training_tokens_per_second": run.tokens_per_update / run.seconds_per_update,
        "training_minutes": run.training_seconds / 60,
        "bleu": BLEU().corpus_score(run.hypotheses, [run.references]).score,
        "chrf": CHRF().corpus_score(run.hypotheses, [run.references]).score,
        "teacher_agreement": run.agreement["teacher_agreement"],
        "decoding_sentences_per_second": run.decoding_sentences_per_second,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("systems", nargs="+")
    args = parser.parse_args()
    rows = [read_system(Run(args.work / system)) for system in args.systems]
    cells = [[row["system"], *(number(row[column]) for column in list(COLUMNS)[1:])] for row in rows]
    table = as_markdown(Table(list(COLUMNS.values()), cells)) + "\n"
    (args.work / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (args.work / "results.md").write_text(table, encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main()
