"""Write the decoder state and the gold token at every target position, to teach students by nearest neighbours.

The states are those of a base model, a transformer trained on the same data: the input of the last decoder layer's
feed-forward block under the reference's prefix, in float16. A position takes 2 bytes for each unit of the decoder's
width and 2 for the token (4 if the vocabulary has more than 65,536 symbols). `nmt-kd cache --source knn` finds the
nearest neighbours and writes the predictions to train from.

Rerun to resume: a run computes what is missing, with any number of workers, as `nmt-kd cache` does.
"""

import argparse
from pathlib import Path

from nmt_kd.caching.neighbours.datastore import build_datastore
from nmt_kd.caching.neighbours.keys import KeyReader
from nmt_kd.caching.sources import checkpoint
from nmt_kd.workers import add_worker_flags

EXAMPLE = "nmt-kd datastore data-bin datastore --teacher-path student.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument("output", type=Path, metavar="out", help="folder for the datastore; rerun to resume")
    parser.add_argument("--teacher-path", required=True, help="the base model, a fairseq checkpoint")
    parser.add_argument("--gen-subset", default="train", help="subset of the data (default: %(default)s)")
    add_worker_flags(parser)
    parser.add_argument("--max-tokens", type=int, default=4000, help="tokens per batch (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    task, base = checkpoint.open_source(args.data, args.teacher_path, checkpoint.Options())
    reader = KeyReader(base, args.teacher_path)
    build_datastore(task, reader, args.output, args.gen_subset, args.max_tokens, args.shard_id, args.num_shards)
