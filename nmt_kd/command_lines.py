"""Improve how fairseq's commands read their command lines."""

import argparse
import functools
import sys

from fairseq import options
from fairseq.criterions import CRITERION_REGISTRY

from nmt_kd.errors import UserError

HELP = ("-h", "--help")


def apply() -> None:
    """Make --help show all options, and name missing or unsupported ones in one line; call this once per process."""
    parse = options.parse_args_and_arch

    @functools.wraps(parse)
    def parse_args_and_arch(parser, *args, **kwargs):
        show_help_last(parser)
        if parser.get_default("task") is None:  # fairseq-validate has no default, and fails without --task
            parser.set_defaults(task="translation")
        parsed = parse(parser, *args, **kwargs)
        namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(namespace, "path", "") is None:
            raise UserError("no checkpoint given; name one with --path, such as --path checkpoints/checkpoint_best.pt")
        criterion = CRITERION_REGISTRY.get(getattr(namespace, "criterion", None))
        if hasattr(criterion, "check_backend"):  # before fairseq-train asks to install what would not help
            criterion.check_backend(namespace.ddp_backend)
        return parsed

    options.parse_args_and_arch = parse_args_and_arch


def show_help_last(parser: argparse.ArgumentParser) -> None:
    """Make the parser ignore --help the first time that it parses.

    fairseq parses twice: first to learn the architecture, task, criterion and so on, and again when it has added their
    options. Otherwise the first time would print the help, without those options, and exit.
    """
    parse_known_args = parser.parse_known_args

    def without_help(args=None, namespace=None):
        parser.parse_known_args = parse_known_args  # type: ignore[method-assign]
        arguments = sys.argv[1:] if args is None else args
        first, rest = parse_known_args([argument for argument in arguments if argument not in HELP], namespace)
        if getattr(first, "arch", "") is None:  # fairseq-train has no default
            if not set(HELP) & set(arguments):
                raise UserError("no architecture given; name one with --arch, such as --arch transformer")
            del first.arch  # there are no options to add
        return first, rest

    parser.parse_known_args = without_help  # type: ignore[method-assign]
