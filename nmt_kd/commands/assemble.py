"""Put what --task seq_kd has decoded back into the order of the data, as a binarised training corpus."""

import argparse
from pathlib import Path

from nmt_kd.decoding.corpus import SIMILARITIES, Filters, assemble, binarise, write_corpus
from nmt_kd.decoding.shards import ShardFolder

EXAMPLE = "nmt-kd assemble kd --data data-bin --corpus base+kd --output data-bin-base+kd"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the --distill-dir that was decoded into")
    parser.add_argument("--data", type=Path, required=True, help="the binarised data that was decoded")
    parser.add_argument(
        "--corpus",
        default="kd",
        help="what it is made of, joined by '+': base (the original pairs), kd (the best hypotheses), best-2 (the two "
        "best), inter (those closest to the references), bt (see --reverse) (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the binarised corpus")
    parser.add_argument(
        "--similarity", choices=SIMILARITIES, default="bleu", help="how inter compares (default: %(default)s)"
    )
    parser.add_argument(
        "--reverse", type=Path, help="for bt: the --distill-dir of a reverse teacher that decoded the targets"
    )
    parser.add_argument(
        "--max-length-ratio", type=float, help="leave out decoded pairs of which one side has so many times more tokens"
    )
    parser.add_argument("--drop-loops", action="store_true", help="leave out targets with a repetition loop")
    parser.add_argument("--drop-copies", action="store_true", help="leave out targets that are their source")
    parser.add_argument("--workers", type=int, default=1, help="processes that binarise (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    filters = Filters(args.max_length_ratio, args.drop_loops, args.drop_copies)
    parts = args.corpus.split("+")
    pairs, report = assemble(args.folder, args.data, parts, filters, args.similarity, args.reverse)
    languages = ShardFolder(args.folder).settings()["languages"].split("-")
    count = write_corpus(pairs, args.output / "text", *languages)
    for part, number in report.pairs.items():
        print(f"{part}: {number:,} pairs")
    for reason, number in report.dropped.items():
        print(f"left out, {reason}: {number:,}")
    binarise(args.output / "text", args.data, args.output, *languages, workers=args.workers)
    print(f"wrote {count:,} pairs to {args.output}, binarised, and as text to {args.output / 'text'}")
