"""Write one HTML page about training runs: scores with significance, learning curves, costs, settings that differ.

A run is a folder as scripts/train.sh and scripts/evaluate.sh leave it; runs that differ in their seeds alone are one
system. The page needs no other file and no network; its plots also lie beside it as PNGs.
"""

import argparse
from pathlib import Path

from nmt_kd.evaluation.report import write_report
from nmt_kd.evaluation.runs import Run

EXAMPLE = "nmt-kd report runs/multi30k/teacher runs/multi30k/plain runs/multi30k/word_kd --output report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, in the order of the tables")
    parser.add_argument("--output", type=Path, required=True, help="folder for index.html and the plots")
    parser.add_argument(
        "--baseline", metavar="NAME", help="the system to compare with (default: plain, where there is one)"
    )


def run(args: argparse.Namespace) -> None:
    page = write_report([Run(folder) for folder in args.runs], args.output, args.baseline)
    print(f"wrote {page}, and its plots as PNGs beside it")
