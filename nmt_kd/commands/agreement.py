"""How often, and where, two models make the same choices under teacher forcing.

Agreement is the share of target tokens with the same first choice. The top-k edit distance is the mean Levenshtein
distance of the two lists of most probable symbols; the top-k ranking distance is the mean number of places by which the
student moves the teacher's k first symbols, at most k each. A model's accuracy is the share of tokens whose reference
is its first choice.

All are given for all target tokens, of which the end of a sentence is one, and in buckets: by the teacher's highest
probability; by the length of the token's source and target sentence, in subword tokens, the end included; and by the
reference token's rank in the dictionary, most frequent first. The end of the sentence and the unknown word have none.
"""

import argparse
import json
import sys
from pathlib import Path

from nmt_kd.evaluation.agreement import measure_agreement
from nmt_kd.evaluation.agreement_measures import Bounds
from nmt_kd.evaluation.agreement_report import as_table, check_can_draw, draw
from nmt_kd.evaluation.tables import FORMATS

EXAMPLE = "nmt-kd agreement student.pt teacher.pt data-bin --gen-subset test --plot agreement.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    usual = Bounds()
    parser.add_argument("student", help="checkpoint; several, separated by ':', are an ensemble")
    parser.add_argument("teacher", help="likewise")
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument("--gen-subset", default="test", help="subset of the data (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=4000, help="tokens in a batch (default: %(default)s)")
    parser.add_argument("--top-k", type=int, default=5, help="length of the lists compared (default: %(default)s)")
    bounds = {
        "confidence": (float, "highest probabilities of the teacher"),
        "length": (int, "longest lengths of sentences"),
        "frequency": (int, "last ranks of reference tokens"),
    }
    for name, (kind, what) in bounds.items():
        default = getattr(usual, name)
        parser.add_argument(
            f"--{name}-bounds",
            nargs="+",
            type=kind,
            default=default,
            metavar="BOUND",
            help=f"{what} of all buckets but the last (default: {' '.join(map(str, default))})",
        )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--format", choices=FORMATS, default="text", help="of the table (default: %(default)s)")
    output.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw agreement and share of tokens by bucket")


def run(args: argparse.Namespace) -> None:
    bounds = Bounds(args.confidence_bounds, args.length_bounds, args.frequency_bounds)
    if args.plot:
        check_can_draw(args.plot)
    agreement = measure_agreement(
        args.student, args.teacher, args.data, args.gen_subset, args.max_tokens, args.top_k, bounds
    )
    print(json.dumps(agreement.as_dict()) if args.json else FORMATS[args.format](as_table(agreement)))
    if args.plot:
        draw(agreement, args.plot)
        print(f"wrote {args.plot}", file=sys.stderr)
