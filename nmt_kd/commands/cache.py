"""Cache a teacher's most probable words at every target position, to train students without the teacher.

For each target position the cache stores the indices of the top-k words (2 bytes each, or 4 if the vocabulary has more
than 65,536 symbols), their log-probabilities (2 bytes each) and the log of the mass of all other words (4 bytes). With
k = 8 this is 36 bytes per token, or 4.5 GB for five million sentences of 25 tokens.

Rerun to resume: a run computes what is missing, with any number of workers. Start workers with torchrun, or each with
the same --num-shards and its own --shard-id (and then choose its GPU with CUDA_VISIBLE_DEVICES).
"""

import argparse
from dataclasses import fields
from pathlib import Path

from nmt_kd.caching.building import build_cache
from nmt_kd.caching.sources import SourceKind, source_kinds
from nmt_kd.errors import UserError
from nmt_kd.options import add_flags, check_options, flag, values_of
from nmt_kd.workers import add_precision_flag, add_worker_flags

EXAMPLE = "nmt-kd cache data-bin --teacher-path teacher.pt --top-k 8 cache"
DEFAULT = "checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = source_kinds()
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument(
        "--source", choices=kinds, default=DEFAULT, help="kind of teacher, see below (default: %(default)s)"
    )
    parser.add_argument(
        "--teacher-path", required=True, help="the teacher: a checkpoint, or what the kind of teacher asks for"
    )
    parser.add_argument("--top-k", type=int, default=8, help="words per position (default: %(default)s)")
    parser.add_argument("output", type=Path, metavar="out", help="folder for the predictions; rerun to resume")
    parser.add_argument(
        "--gen-subset",
        nargs="+",
        default=["train", "valid"],
        metavar="SUBSET",
        help="subsets of the data (default: train valid)",
    )
    add_worker_flags(parser)
    parser.add_argument("--max-tokens", type=int, default=4000, help="tokens per batch (default: %(default)s)")
    add_precision_flag(parser)
    for kind in kinds.values():
        group = parser.add_argument_group(f"--source {kind.name}", kind.help)
        add_flags(group, kind.options)


def run(args: argparse.Namespace) -> None:
    kinds = source_kinds()
    chosen = kinds[args.source]
    options = options_of(chosen, kinds, args)
    task, source = chosen.open_source(args.data, args.teacher_path, options)
    build_cache(
        task,
        source,
        args.output,
        args.top_k,
        args.gen_subset,
        args.max_tokens,
        args.shard_id,
        args.num_shards,
        fp16=args.fp16,
    )


def options_of(chosen: SourceKind, kinds: dict[str, SourceKind], args: argparse.Namespace):
    """Return the options of the `chosen` kind; raises UserError for values not allowed and for options of another."""
    for kind in kinds.values():
        given = [item.name for item in fields(kind.options) if hasattr(args, item.name)]
        if given and kind is not chosen:
            raise UserError(f"{flag(given[0])} is an option of --source {kind.name}, not of --source {chosen.name}")
    options = chosen.options(**values_of(chosen.options, args))
    check_options(vars(options), chosen.options)
    return options
