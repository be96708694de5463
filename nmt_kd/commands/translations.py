"""Print the best translation of each sentence in fairseq-generate's output, in the order of the data."""

import argparse
from pathlib import Path

from nmt_kd.evaluation.texts import generated_lines

EXAMPLE = "nmt-kd translations generate.log > test.hypotheses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generated", type=Path, help="file with the output of fairseq-generate")
    parser.add_argument(
        "--lines",
        choices="DHST",
        default="D",
        help="D: detokenised translations (default), H: translations before fairseq's --tokenizer detokenises them, "
        "S: sources, T: references",
    )


def run(args: argparse.Namespace) -> None:
    for line in generated_lines(args.generated, args.lines):
        print(line)
