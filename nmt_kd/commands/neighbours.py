"""Find the nearest neighbours of every target position in a datastore, to make several caches after one search.

For each position the folder has the distances and tokens of its nearest k + 1 neighbours, 6 bytes each, and 4 more.
`nmt-kd cache --source knn --knn-neighbours FOLDER` makes predictions of them at any temperature, with the position
itself or without it, for any number of neighbours up to k.

Rerun to resume: a run computes what is missing, with any number of workers, as `nmt-kd cache` does.
"""

import argparse
from pathlib import Path

from nmt_kd.caching.neighbours.opening import SearchOptions, open_finder
from nmt_kd.caching.neighbours.stored import build_neighbours
from nmt_kd.caching.sources import checkpoint
from nmt_kd.options import add_flags, check_options, values_of
from nmt_kd.workers import add_worker_flags

EXAMPLE = "nmt-kd neighbours data-bin neighbours --teacher-path student.pt --knn-datastore datastore --knn-k 64"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument("output", type=Path, metavar="out", help="folder for the neighbours; rerun to resume")
    parser.add_argument("--teacher-path", required=True, help="the base model that the datastore was made with")
    add_flags(parser, SearchOptions)
    parser.add_argument(
        "--gen-subset",
        nargs="+",
        default=["train", "valid"],
        metavar="SUBSET",
        help="subsets of the data (default: train valid)",
    )
    add_worker_flags(parser)
    parser.add_argument("--max-tokens", type=int, default=4000, help="tokens per batch (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    options = SearchOptions(**values_of(SearchOptions, args))
    check_options(vars(options), SearchOptions)
    task, base = checkpoint.open_source(args.data, args.teacher_path, checkpoint.Options())
    finder = open_finder(task, base, args.teacher_path, options)
    build_neighbours(task, finder, args.output, args.gen_subset, args.max_tokens, args.shard_id, args.num_shards)
