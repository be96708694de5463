"""Write a teacher's most probable words at every target position to disk, to train students without the teacher.

For each position of the target the cache has the numbers of the top-k words (2 bytes each, 4 where the vocabulary has
more than 65,536 symbols), their log-probabilities (2 bytes each) and the log of the mass of all other words (4 bytes):
with k = 8 these are 4.5 bytes an entry, 36 a token, 4.5 GB for five million sentences of 25 tokens.

What is complete stays: a run that was killed and is started again, with any number of workers, computes what is
missing. Workers are started by torchrun, or with the same --num-shards and a --shard-id each (then give every one its
GPU by CUDA_VISIBLE_DEVICES).
"""

import argparse
from pathlib import Path

from nmt_kd.caching.building import build_cache

EXAMPLE = "nmt-kd cache data-bin --teacher-path teacher.pt --top-k 8 cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument("--teacher-path", required=True, help="checkpoint; several, separated by ':', are an ensemble")
    parser.add_argument("--top-k", type=int, default=8, help="words a position (default: %(default)s)")
    parser.add_argument("output", type=Path, metavar="out", help="folder for the predictions; goes on where it ends")
    parser.add_argument(
        "--gen-subset",
        nargs="+",
        default=["train", "valid"],
        metavar="SUBSET",
        help="subsets of the data (default: train valid)",
    )
    parser.add_argument("--num-shards", type=int, default=1, help="workers in all (default: %(default)s)")
    parser.add_argument("--shard-id", type=int, default=0, help="which of them this is, from 0 (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=4000, help="tokens in a batch (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    build_cache(
        args.teacher_path,
        args.data,
        args.output,
        args.top_k,
        args.gen_subset,
        args.max_tokens,
        args.shard_id,
        args.num_shards,
    )
