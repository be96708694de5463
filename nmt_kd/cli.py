"""The command line `nmt-kd`: what is done with models before and after training."""

import argparse
import json
import sys
from pathlib import Path

import nmt_kd
from nmt_kd import averaging
from nmt_kd.errors import UserError
from nmt_kd.evaluation.agreement import measure_agreement


def run_average(args: argparse.Namespace) -> None:
    count, pattern = args.last_updates, averaging.BY_UPDATE
    if args.last_epochs:
        count, pattern = args.last_epochs, averaging.BY_EPOCH
    paths = [Path(path) for path in args.inputs]
    if count:
        if len(paths) != 1 or not paths[0].is_dir():
            raise UserError("--last-epochs and --last-updates want one folder of checkpoints as --inputs")
        paths = averaging.last_checkpoints(paths[0], count, pattern)
    averaging.write_average(paths, args.output)
    print(f"wrote the average of {len(paths)} checkpoints to {args.output}:", *(path.name for path in paths))


def run_agreement(args: argparse.Namespace) -> None:
    agreement = measure_agreement(args.student, args.teacher, args.data, args.gen_subset, args.max_tokens)
    if args.json:
        print(json.dumps(agreement.as_dict()))
    else:
        print(f"top-1 agreement: {agreement.percent:.2f} % of {agreement.tokens} tokens")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nmt-kd", description=__doc__)
    parser.add_argument("--version", action="version", version=nmt_kd.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    average = commands.add_parser(
        "average",
        help="average checkpoints",
        description="Average the parameters of checkpoints.",
        epilog="example: nmt-kd average --inputs checkpoints/ --last-epochs 5 --output checkpoints/average.pt",
    )
    average.add_argument("--inputs", nargs="+", required=True, help="checkpoints, or one folder of them")
    which = average.add_mutually_exclusive_group()
    which.add_argument("--last-epochs", type=int, metavar="N", help="the last N epoch checkpoints of the folder")
    which.add_argument("--last-updates", type=int, metavar="N", help="the last N checkpoints by update of the folder")
    average.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    average.set_defaults(run=run_average)

    agreement = commands.add_parser(
        "agreement",
        help="how often student and teacher agree",
        description="Share of target tokens for which both models have the same first choice, under teacher forcing.",
        epilog="example: nmt-kd agreement student.pt teacher.pt data-bin --gen-subset test",
    )
    agreement.add_argument("student", help="checkpoint; several, separated by ':', are an ensemble")
    agreement.add_argument("teacher", help="likewise")
    agreement.add_argument("data", help="folder with the binarised data")
    agreement.add_argument("--gen-subset", default="test", help="subset of the data (default: %(default)s)")
    agreement.add_argument("--max-tokens", type=int, default=4000, help="tokens in a batch (default: %(default)s)")
    agreement.add_argument("--json", action="store_true", help="print one JSON object")
    agreement.set_defaults(run=run_agreement)
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    args.run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
