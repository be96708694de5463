"""Average the parameters of checkpoints."""

import argparse
import re
from pathlib import Path

from nmt_kd.checkpoints import averaging
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1

EXAMPLE = "nmt-kd average --inputs checkpoints/ --last-epochs 5 --output checkpoints/average.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--inputs", nargs="+", required=True, type=Path, help="checkpoints, or a folder of them")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--last-epochs", type=int, metavar="N", help="the last N epoch checkpoints of the folder")
    which.add_argument("--last-updates", type=int, metavar="N", help="the last N checkpoints by update of the folder")
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint to write")


def run(args: argparse.Namespace) -> None:
    paths = args.inputs
    if args.last_epochs is not None:
        paths = _last(paths, "--last-epochs", args.last_epochs, averaging.BY_EPOCH)
    elif args.last_updates is not None:
        paths = _last(paths, "--last-updates", args.last_updates, averaging.BY_UPDATE)
    elif any(path.is_dir() for path in paths):
        raise UserError("--inputs is a folder; say which of its checkpoints with --last-epochs or --last-updates")
    averaging.write_average(paths, args.output)
    print(f"wrote the average of {len(paths)} checkpoints to {args.output}:", *(path.name for path in paths))


def _last(paths: list[Path], flag: str, count: int, pattern: re.Pattern) -> list[Path]:
    """Return the last checkpoints of the one folder in `paths`."""
    AT_LEAST_1.check(flag, count)
    if len(paths) != 1 or not paths[0].is_dir():
        raise UserError("--last-epochs and --last-updates take one folder of checkpoints; give it as --inputs")
    return averaging.last_checkpoints(paths[0], count, pattern)
