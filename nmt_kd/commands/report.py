"""Write a report on training runs: scores with significance, learning curves, costs, translations, settings.

A run is a folder written by scripts/train.sh and scripts/evaluate.sh. Runs that differ only in their seeds form one
system. Folders without a train.log are skipped, so a pattern such as runs/multi30k/* works. If several test sets have
been translated, each has its own table. The page, index.html, is self-contained and needs no network. Next to it, the
same report is saved as report.md, with its plots as PNGs.
"""

import argparse
from pathlib import Path

from sacrebleu.metrics.base import Metric

from nmt_kd.evaluation.comet import comet_metrics
from nmt_kd.evaluation.metrics import bleu_and_chrf
from nmt_kd.evaluation.report import write_report
from nmt_kd.evaluation.runs import Run

EXAMPLE = "nmt-kd report runs/multi30k/teacher runs/multi30k/plain runs/multi30k/word_kd --output report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, in the order in which tables list them")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write index.html, report.md and the plots to"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="the system to compare the others with (default: plain, if present)"
    )
    parser.add_argument(
        "--comet-models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="COMET models to score with as well, as in nmt-kd score (default: none)",
    )


def run(args: argparse.Namespace) -> None:
    def metrics(sources: list[str], references: list[str]) -> dict[str, Metric]:
        return bleu_and_chrf(references) | comet_metrics(args.comet_models, sources, references)

    folders = [folder for folder in args.runs if (folder / "train.log").is_file()]
    if skipped := [folder.name for folder in args.runs if folder not in folders]:
        print("skipped, no train.log:", *skipped)
    # without any run, the error about the first folder says what is missing
    page = write_report([Run(folder) for folder in folders or args.runs[:1]], args.output, args.baseline, metrics)
    print(f"wrote {page}, and report.md and the plots next to it")
