"""Print the best translation of each sentence from fairseq-generate's output, in the order of the data."""

import argparse
from pathlib import Path

from nmt_kd.evaluation.texts import best_hypotheses

EXAMPLE = "nmt-kd translations generate.log > test.hypotheses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generated", type=Path, help="what fairseq-generate printed")


def run(args: argparse.Namespace) -> None:
    for translation in best_hypotheses(args.generated):
        print(translation)
