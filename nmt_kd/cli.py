"""The command line `nmt-kd`: what is done with models before and after training.

A command is a file in `nmt_kd/commands`, found by itself. Its docstring is the help; it has an EXAMPLE, `add_arguments`
that gets the command's parser, and `run` that gets the parsed arguments.
"""

import argparse
import importlib
import logging
import pkgutil
import sys

import nmt_kd
from nmt_kd import commands


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="nmt-kd", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=nmt_kd.__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in pkgutil.iter_modules(commands.__path__):
        command = importlib.import_module(f"{commands.__name__}.{module.name}")
        subparser = subparsers.add_parser(
            module.name,
            help=command.__doc__.partition("\n")[0],
            description=command.__doc__,
            epilog=f"example: {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command that `arguments`, or the command line, names; wrong input raises UserError."""
    args = build_parser().parse_args(arguments)
    # Libraries set up logging too, some for standard output, which is for results.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    logging.getLogger("nmt_kd").setLevel(logging.INFO)
    args.run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
