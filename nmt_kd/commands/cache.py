"""Cache a teacher's most probable words at every target position, to train students without the teacher.

For each target position the cache stores the indices of the top-k words (2 bytes each, or 4 if the vocabulary has more
than 65,536 symbols), their log-probabilities (2 bytes each) and the log of the mass of all other words (4 bytes). With
k = 8 this is 36 bytes per token, or 4.5 GB for five million sentences of 25 tokens.

Rerun to resume: a run computes what is missing, with any number of workers. Start workers with torchrun, or each with
the same --num-shards and its own --shard-id (and then choose its GPU with CUDA_VISIBLE_DEVICES).
"""

import argparse
from pathlib import Path

from nmt_kd.caching.building import build_cache

EXAMPLE = "nmt-kd cache data-bin --teacher-path teacher.pt --top-k 8 cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument("--teacher-path", required=True, help="checkpoint, or an ensemble of several, separated by ':'")
    parser.add_argument("--top-k", type=int, default=8, help="words per position (default: %(default)s)")
    parser.add_argument("output", type=Path, metavar="out", help="folder for the predictions; rerun to resume")
    parser.add_argument(
        "--gen-subset",
        nargs="+",
        default=["train", "valid"],
        metavar="SUBSET",
        help="subsets of the data (default: train valid)",
    )
    parser.add_argument("--num-shards", type=int, default=1, help="number of workers (default: %(default)s)")
    parser.add_argument("--shard-id", type=int, default=0, help="number of this worker, from 0 (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=4000, help="tokens per batch (default: %(default)s)")


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
