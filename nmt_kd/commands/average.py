"""Average the parameters of checkpoints."""

import argparse
from pathlib import Path

from nmt_kd.checkpoints import averaging
from nmt_kd.errors import UserError

EXAMPLE = "nmt-kd average --inputs checkpoints/ --last-epochs 5 --output checkpoints/average.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--inputs", nargs="+", required=True, type=Path, help="checkpoints, or a folder of them")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--last-epochs", type=int, metavar="N", help="the last N epoch checkpoints of the folder")
    which.add_argument("--last-updates", type=int, metavar="N", help="the last N checkpoints by update of the folder")
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint to write")


def run(args: argparse.Namespace) -> None:
    paths, count, pattern = args.inputs, args.last_updates, averaging.BY_UPDATE
    if args.last_epochs:
        count, pattern = args.last_epochs, averaging.BY_EPOCH
    if count:
        if len(paths) != 1 or not paths[0].is_dir():
            raise UserError("--last-epochs and --last-updates take one folder of checkpoints; give it as --inputs")
        paths = averaging.last_checkpoints(paths[0], count, pattern)
    averaging.write_average(paths, args.output)
    print(f"wrote the average of {len(paths)} checkpoints to {args.output}:", *(path.name for path in paths))
