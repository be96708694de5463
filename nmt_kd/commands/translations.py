"""Print the best translation of each sentence from fairseq-generate's output, in the order of the data."""

import argparse
from pathlib import Path

from nmt_kd.evaluation.texts import generated_lines

EXAMPLE = "nmt-kd translations generate.log > test.hypotheses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generated", type=Path, help="what fairseq-generate printed")
    parser.add_argument(
        "--lines",
        choices="DHST",
        default="D",
        help="D: translations as text (default), H: the same before fairseq's --tokenizer makes text of them, "
        "S: sources, T: references",
    )


def run(args: argparse.Namespace) -> None:
    for line in generated_lines(args.generated, args.lines):
        print(line)
