"""Print a table of a data set's trained systems from what training and evaluation left in their folders.

    python scripts/results.py runs/multi30k teacher plain word_kd

Reads SYSTEM/{train.log,checkpoint_last.pt,translations.txt,agreement.json} and text/test.*; writes results.md and
results.json beside them.
Speeds are of this machine: training in target tokens a second, decoding in sentences a second.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.compat import read_checkpoint_file
from nmt_kd.evaluation.tables import Table, as_markdown, number

COLUMNS = {
    "system": "system",
    "parameters": "parameters",
    "bleu": "BLEU",
    "chrf": "chrF",
    "teacher_agreement": "agreement with the teacher, %",
    "updates": "updates",
    "seconds_per_update": "training, seconds an update",
    "training_tokens_per_second": "training, tokens/s",
    "training_minutes": "training, minutes",
    "decoding_sentences_per_second": "decoding, sentences/s",
}


def read_hypotheses(translations: Path) -> list[str]:
    """The best hypotheses of fairseq-generate's output in the order of the test set."""
    hypotheses = {}
    for line in translations.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"H-(\d+)\t[^\t]*\t(.*)", line):
            hypotheses.setdefault(int(found[1]), found[2])
    return [hypotheses[number] for number in sorted(hypotheses)]


def read_training(folder: Path) -> dict:
    """Parameters, updates, time and speed of a training; the time counts all restarts."""
    log = (folder / "train.log").read_text(encoding="utf-8")
    epochs = [json.loads(line) for line in re.findall(r"\| INFO \| train \| (\{.*\})$", log, re.MULTILINE)]
    state = read_checkpoint_file(folder / "checkpoint_last.pt")
    return {
        "parameters": int(re.search(r"num\. shared model params: ([\d,]+)", log)[1].replace(",", "")),
        "updates": state["optimizer_history"][-1]["num_updates"],
        "seconds_per_update": 1 / statistics.median(float(epoch["train_ups"]) for epoch in epochs),
        "training_tokens_per_second": statistics.median(
            float(epoch["train_wpb"]) * float(epoch["train_ups"]) for epoch in epochs
        ),
        "training_minutes": state["extra_state"]["previous_training_time"] / 60,
    }


def read_system(folder: Path, references: list[str]) -> dict:
    """All columns of one system."""
    translations = folder / "translations.txt"
    hypotheses = read_hypotheses(translations)
    if len(hypotheses) != len(references):
        raise SystemExit(f"{translations} has {len(hypotheses)} translations of {len(references)} sentences")
    speed = re.search(r"\(([\d.]+) sentences/s", (folder / "translations.txt.log").read_text(encoding="utf-8"))
    return {
        "system": folder.name,
        **read_training(folder),
        "bleu": BLEU().corpus_score(hypotheses, [references]).score,
        "chrf": CHRF().corpus_score(hypotheses, [references]).score,
        "teacher_agreement": json.loads((folder / "agreement.json").read_text())["teacher_agreement"],
        "decoding_sentences_per_second": float(speed[1]),
    }


def as_table(rows: list[dict]) -> str:
    cells = [[row["system"], *(number(row[column]) for column in list(COLUMNS)[1:])] for row in rows]
    return as_markdown(Table(list(COLUMNS.values()), cells)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("systems", nargs="+")
    parser.add_argument("--target-lang", default="de")
    args = parser.parse_args()
    references = (args.work / f"text/test.{args.target_lang}").read_text(encoding="utf-8").splitlines()
    rows = [read_system(args.work / system, references) for system in args.systems]
    table = as_table(rows)
    (args.work / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (args.work / "results.md").write_text(table, encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main()
