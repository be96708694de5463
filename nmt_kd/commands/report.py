"""Write one HTML page about training runs: scores with significance, learning curves, costs, settings that differ.

A run is a folder as scripts/train.sh and scripts/evaluate.sh leave it; runs that differ in their seeds alone are one
system. Whatever else is among the names (runs/multi30k/*) and has no train.log is left out. The page needs no other
file and no network; its plots also lie beside it as PNGs.
"""

import argparse
from pathlib import Path

from sacrebleu.metrics.base import Metric

from nmt_kd.evaluation.comet import comet_metrics
from nmt_kd.evaluation.report import bleu_and_chrf, write_report
from nmt_kd.evaluation.runs import Run

EXAMPLE = "nmt-kd report runs/multi30k/teacher runs/multi30k/plain runs/multi30k/word_kd --output report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, in the order of the tables")
    parser.add_argument("--output", type=Path, required=True, help="folder for index.html and the plots")
    parser.add_argument(
        "--baseline", metavar="NAME", help="the system to compare with (default: plain, where there is one)"
    )
    parser.add_argument(
        "--comet-models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="also score by COMET; see nmt-kd score (default: not)",
    )


def run(args: argparse.Namespace) -> None:
    def metrics(sources: list[str], references: list[str]) -> dict[str, Metric]:
        return bleu_and_chrf(references) | comet_metrics(args.comet_models, sources, references)

    folders = [folder for folder in args.runs if (folder / "train.log").is_file()]
    if left_out := [folder.name for folder in args.runs if folder not in folders]:
        print("left out, for they have no train.log:", *left_out)
    page = write_report([Run(folder) for folder in folders or args.runs[:1]], args.output, args.baseline, metrics)
    print(f"wrote {page}, and its plots as PNGs beside it")
