"""Tools to use before and after distillation with fairseq-train.

Each file in `nmt_kd/commands` is a command and needs no registration. Its docstring is the help text. It defines
`EXAMPLE`, `add_arguments`, which receives the command's parser, and `run`, which receives the parsed arguments.
"""

import argparse
import errno
import importlib
import logging
import os
import pkgutil
import select
import sys

import nmt_kd
from nmt_kd import commands
from nmt_kd.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="nmt-kd", description=_first_line(__doc__))
    parser.add_argument("--version", action="version", version=nmt_kd.__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in pkgutil.iter_modules(commands.__path__):
        command = importlib.import_module(f"{commands.__name__}.{module.name}")
        subparser = subparsers.add_parser(
            module.name,
            help=_first_line(command.__doc__),
            description=command.__doc__,
            epilog=f"example: {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def main(arguments: list[str] | None = None) -> int:
    """Run the command given by `arguments`, by default the command line, and return its exit status.

    The status is 1 if the reader of standard output has gone, and 130 if the user interrupts the command. Raises
    UserError for wrong input.
    """
    args = build_parser().parse_args(arguments)
    # Some libraries set up logging to standard output, which is reserved for results.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    logging.getLogger("nmt_kd").setLevel(logging.INFO)
    try:
        args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            return 1
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = f" for {error.filename}" if error.filename else ""
            raise UserError(f"no space is left on the disk{place}; free some, then rerun") from None
        if not error.filename:
            raise
        raise UserError(f"{error.filename}: {error.strerror}; give another path, or change its permissions") from None
    return 0


def _reader_has_gone() -> bool:
    """Tell whether nobody reads standard output any more; if so, redirect it, so that the last flush does not fail."""
    poll = select.poll()
    poll.register(sys.stdout, 0)  # errors are reported without being asked for
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


if __name__ == "__main__":
    sys.exit(main())
