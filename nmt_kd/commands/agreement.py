"""Share of target tokens for which two models have the same first choice, under teacher forcing."""

import argparse
import json

from nmt_kd.evaluation.agreement import measure_agreement

EXAMPLE = "nmt-kd agreement student.pt teacher.pt data-bin --gen-subset test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("student", help="checkpoint; several, separated by ':', are an ensemble")
    parser.add_argument("teacher", help="likewise")
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument("--gen-subset", default="test", help="subset of the data (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=4000, help="tokens in a batch (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> None:
    agreement = measure_agreement(args.student, args.teacher, args.data, args.gen_subset, args.max_tokens)
    if args.json:
        print(json.dumps(agreement.as_dict()))
    else:
        print(f"top-1 agreement: {agreement.percent:.2f} % of {agreement.tokens} tokens")
