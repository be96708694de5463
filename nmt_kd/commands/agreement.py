"""Measure how often, and where, two models make the same choices under teacher forcing.

Agreement is the share of target tokens for which both models have the same first choice. The top-k edit distance is the
mean Levenshtein distance between the two lists of most probable symbols. The top-k ranking distance is the mean number
of places by which the student moves each of the teacher's top k symbols, at most k. A model's accuracy is the share of
tokens whose reference is its first choice. Its calibration error is the expected calibration error (Guo et al., 2017)
over ten bins of its highest probability: the mean difference between its accuracy and its confidence.

All measures are reported over all target tokens, including </s>, and all but the last in buckets: by the teacher's
highest probability; by the lengths of the source and target sentence, in subword tokens including </s>; and by the
frequency rank of the reference token in the dictionary, 1 being the most frequent. The special symbols </s> and <unk>
have no rank.
"""

import argparse
import json
import sys
from pathlib import Path

from nmt_kd.evaluation.agreement import measure_agreement
from nmt_kd.evaluation.agreement_measures import Bounds
from nmt_kd.evaluation.agreement_report import as_table, check_can_draw, draw
from nmt_kd.evaluation.tables import FORMATS
from nmt_kd.workers import add_precision_flag

EXAMPLE = "nmt-kd agreement student.pt teacher.pt data-bin --gen-subset test --plot agreement.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    usual = Bounds()
    parser.add_argument("student", help="checkpoint; several separated by ':' form an ensemble")
    parser.add_argument("teacher", help="checkpoint or ensemble, as for the student")
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument(
        "--gen-subset",
        default="test",
        help="subset of the data, such as test1, the second test set (default: %(default)s)",
    )
    parser.add_argument("--max-tokens", type=int, default=4000, help="tokens per batch (default: %(default)s)")
    add_precision_flag(parser)
    parser.add_argument("--top-k", type=int, default=5, help="length of the compared lists (default: %(default)s)")
    bounds = {
        "confidence": (float, "the teacher's highest probability"),
        "length": (int, "sentence length"),
        "frequency": (int, "frequency rank"),
    }
    for name, (kind, what) in bounds.items():
        default = getattr(usual, name)
        parser.add_argument(
            f"--{name}-bounds",
            nargs="+",
            type=kind,
            default=default,
            metavar="BOUND",
            help=f"upper bounds of all but the last bucket of {what} (default: {' '.join(map(str, default))})",
        )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--format", choices=FORMATS, default="text", help="format of the table (default: %(default)s)")
    output.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="plot agreement and share of tokens by bucket to a file"
    )


def run(args: argparse.Namespace) -> None:
    bounds = Bounds(args.confidence_bounds, args.length_bounds, args.frequency_bounds)
    if args.plot:
        check_can_draw(args.plot)
    agreement = measure_agreement(
        args.student, args.teacher, args.data, args.gen_subset, args.max_tokens, args.top_k, bounds, args.fp16
    )
    print(json.dumps(agreement.as_dict()) if args.json else FORMATS[args.format](as_table(agreement)))
    if args.plot:
        draw(agreement, args.plot)
        print(f"wrote {args.plot}", file=sys.stderr)
