"""Print a table of the systems trained on a data set, from the results of their training and evaluation.

    python scripts/results.py runs/multi30k teacher plain word_kd

Test sets after the first, in translations.NAME.txt, get extra columns. Also writes the table to results.md and
results.json in the same folder. Training speed is in target tokens per second, decoding speed in sentences per second,
both as measured during the runs. For significance tests and learning curves, use nmt-kd report.
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


def read_more_test_sets(run: Run) -> dict[str, float]:
    """Return BLEU and chrF on all test sets but the first, by the heading of the column."""
    scores = {}
    for name, evaluation in list(run.evaluations.items())[1:]:
        if evaluation.hypotheses is not None:
            scores[f"BLEU, {name}"] = BLEU().corpus_score(evaluation.hypotheses, [evaluation.references]).score
            scores[f"chrF, {name}"] = CHRF().corpus_score(evaluation.hypotheses, [evaluation.references]).score
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("systems", nargs="+")
    args = parser.parse_args()
    rows = [read_system(Run(args.work / system)) for system in args.systems]
    scores = [read_more_test_sets(Run(args.work / system)) for system in args.systems]
    more = list(dict.fromkeys(heading for of_system in scores for heading in of_system))
    after = list(COLUMNS).index("chrf") + 1  # the place of the other test sets' columns
    headings, cells = list(COLUMNS.values()), []
    headings[after:after] = more
    for row, of_system in zip(rows, scores, strict=True):
        line = [row["system"], *(number(row[column]) for column in list(COLUMNS)[1:])]
        line[after:after] = [number(of_system.get(heading)) for heading in more]
        cells.append(line)
        row["more_test_sets"] = of_system
    table = as_markdown(Table(headings, cells)) + "\n"
    (args.work / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (args.work / "results.md").write_text(table, encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main()
