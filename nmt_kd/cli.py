"""The command line `nmt-kd`: what is done with models before and after training."""

import argparse
import json
import sys
from pathlib import Path

import nmt_kd
from nmt_kd import averaging
from nmt_kd.decoding.corpus import SIMILARITIES, Filters, assemble, binarise, write_corpus
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.errors import UserError
from nmt_kd.evaluation.agreement import measure_agreement


def run_average(args: argparse.Namespace) -> None:
    count, pattern = args.last_updates, averaging.BY_UPDATE
    if args.last_epochs:
        count, pattern = args.last_epochs, averaging.BY_EPOCH
    paths = [Path(path) for path in args.inputs]
    if count:
        if len(paths) != 1 or not paths[0].is_dir():
            raise UserError("--last-epochs and --last-updates want one folder of checkpoints as --inputs")
        paths = averaging.last_checkpoints(paths[0], count, pattern)
    averaging.write_average(paths, args.output)
    print(f"wrote the average of {len(paths)} checkpoints to {args.output}:", *(path.name for path in paths))


def run_agreement(args: argparse.Namespace) -> None:
    agreement = measure_agreement(args.student, args.teacher, args.data, args.gen_subset, args.max_tokens)
    if args.json:
        print(json.dumps(agreement.as_dict()))
    else:
        print(f"top-1 agreement: {agreement.percent:.2f} % of {agreement.tokens} tokens")


def run_assemble(args: argparse.Namespace) -> None:
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


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nmt-kd", description=__doc__)
    parser.add_argument("--version", action="version", version=nmt_kd.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    average = commands.add_parser(
        "average",
        help="average checkpoints",
        description="Average the parameters of checkpoints.",
        epilog="example: nmt-kd average --inputs checkpoints/ --last-epochs 5 --output checkpoints/average.pt",
    )
    average.add_argument("--inputs", nargs="+", required=True, help="checkpoints, or one folder of them")
    which = average.add_mutually_exclusive_group()
    which.add_argument("--last-epochs", type=int, metavar="N", help="the last N epoch checkpoints of the folder")
    which.add_argument("--last-updates", type=int, metavar="N", help="the last N checkpoints by update of the folder")
    average.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    average.set_defaults(run=run_average)

    assembling = commands.add_parser(
        "assemble",
        help="make a training corpus of decoded sentences",
        description="Put what --task seq_kd has decoded back into the order of the data, and binarise it.",
        epilog="example: nmt-kd assemble kd --data data-bin --corpus base+kd --output data-bin-base+kd",
    )
    assembling.add_argument("folder", type=Path, help="the --distill-dir that was decoded into")
    assembling.add_argument("--data", type=Path, required=True, help="the binarised data that was decoded")
    assembling.add_argument(
        "--corpus",
        default="kd",
        help="what it is made of, joined by '+': base (the original pairs), kd (the best hypotheses), best-2 (the two "
        "best), inter (those closest to the references), bt (see --reverse) (default: %(default)s)",
    )
    assembling.add_argument("--output", type=Path, required=True, help="folder for the binarised corpus")
    assembling.add_argument(
        "--similarity", choices=SIMILARITIES, default="bleu", help="how inter compares (default: %(default)s)"
    )
    assembling.add_argument(
        "--reverse", type=Path, help="for bt: the --distill-dir of a reverse teacher that decoded the targets"
    )
    assembling.add_argument(
        "--max-length-ratio", type=float, help="leave out decoded pairs of which one side has so many times more tokens"
    )
    assembling.add_argument("--drop-loops", action="store_true", help="leave out targets with a repetition loop")
    assembling.add_argument("--drop-copies", action="store_true", help="leave out targets that are their source")
    assembling.add_argument("--workers", type=int, default=1, help="processes that binarise (default: %(default)s)")
    assembling.set_defaults(run=run_assemble)

    agreement = commands.add_parser(
        "agreement",
        help="how often student and teacher agree",
        description="Share of target tokens for which both models have the same first choice, under teacher forcing.",
        epilog="example: nmt-kd agreement student.pt teacher.pt data-bin --gen-subset test",
    )
    agreement.add_argument("student", help="checkpoint; several, separated by ':', are an ensemble")
    agreement.add_argument("teacher", help="likewise")
    agreement.add_argument("data", help="folder with the binarised data")
    agreement.add_argument("--gen-subset", default="test", help="subset of the data (default: %(default)s)")
    agreement.add_argument("--max-tokens", type=int, default=4000, help="tokens in a batch (default: %(default)s)")
    agreement.add_argument("--json", action="store_true", help="print one JSON object")
    agreement.set_defaults(run=run_agreement)
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    args.run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
