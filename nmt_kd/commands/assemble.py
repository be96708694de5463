"""Make a binarised training corpus of what --task seq_kd or nmt-kd decode has decoded, in the order of the data."""

import argparse
from collections.abc import Callable
from pathlib import Path

from nmt_kd.decoding.corpus import assemble
from nmt_kd.decoding.filters import Filters
from nmt_kd.decoding.originals import Originals
from nmt_kd.decoding.selection import SIMILARITIES
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.decoding.text_form import StudentText
from nmt_kd.decoding.writing import binarise, write_corpus
from nmt_kd.errors import UserError
from nmt_kd.subword_model import SubwordModel

CHECKED_SENTENCES = 200  # of the student's data, to see whether it was split with the subword model

EXAMPLE = "nmt-kd assemble kd --data data-bin --corpus base+kd --output data-bin-base+kd"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the --distill-dir, or what nmt-kd decode or nmt-kd import wrote")
    parser.add_argument(
        "--data", type=Path, required=True, help="the binarised data that was decoded; for text, the student's"
    )
    parser.add_argument(
        "--corpus",
        default="kd",
        help="parts of the corpus, joined by '+': base (the original pairs), kd (the best hypotheses), best-2 (the two "
        "best), inter (the hypotheses closest to the references), bt (see --reverse) (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the binarised corpus")
    parser.add_argument(
        "--similarity",
        choices=SIMILARITIES,
        default="bleu",
        help="measure of closeness for inter (default: %(default)s)",
    )
    parser.add_argument(
        "--reverse", type=Path, help="for bt: the --distill-dir into which a reverse teacher decoded the targets"
    )
    parser.add_argument(
        "--max-length-ratio",
        type=float,
        help="leave out decoded pairs if one side has this many times more tokens",
    )
    parser.add_argument("--drop-loops", action="store_true", help="leave out pairs whose target has a repetition loop")
    parser.add_argument("--drop-copies", action="store_true", help="leave out pairs whose target equals the source")
    text = parser.add_argument_group("for what nmt-kd decode or nmt-kd import wrote")
    text.add_argument(
        "--subword-model", type=Path, help="sentencepiece model or BPE codes that split the student's data"
    )
    text.add_argument(
        "--references",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="references, one a line, parallel to the sources; needed for base and inter",
    )
    text.add_argument("--source-lang", help="language of the sources in --data (default: as it was decoded)")
    text.add_argument("--target-lang", help="language of the translations in --data (default: as it was decoded)")
    parser.add_argument("--workers", type=int, default=1, help="processes for binarising (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    filters = Filters(args.max_length_ratio, args.drop_loops, args.drop_copies)
    parts = args.corpus.split("+")
    languages = ShardFolder(args.folder).settings()["languages"].split("-")
    source_lang, target_lang = args.source_lang or languages[0], args.target_lang or languages[1]
    student = None
    if args.subword_model:
        split = _student_splitter(args.subword_model, args.data, source_lang, target_lang)
        student = StudentText(split, source_lang, target_lang, args.references)
    elif args.references or args.source_lang or args.target_lang:
        raise UserError("--references and the languages apply to text only; give --subword-model, or leave them out")
    pairs, report = assemble(args.folder, args.data, parts, filters, args.similarity, args.reverse, student)
    count = write_corpus(pairs, args.output / "text", source_lang, target_lang)
    for part, number in report.pairs.items():
        print(f"{part}: {number:,} pairs")
    for reason, number in report.dropped.items():
        print(f"left out, {reason}: {number:,}")
    for language, number in report.unknown.items():
        print(f"not in dict.{language}.txt, binarised as unknown: {number:,} symbols")
    binarise(args.output / "text", args.data, args.output, source_lang, target_lang, args.workers)
    print(f"wrote {count:,} pairs to {args.output}, binarised, and as text to {args.output / 'text'}")


def _student_splitter(path: Path, data: Path, source_lang: str, target_lang: str) -> Callable[[str], str]:
    """Return the function that splits text as `data` was split; UserError if the model at `path` is another one."""
    model = SubwordModel.read(path)
    for subset in ("valid", "train"):
        if (data / f"{subset}.{source_lang}-{target_lang}.{source_lang}.idx").is_file():
            originals = Originals.load(data, source_lang, target_lang, subset)
            numbers = range(min(CHECKED_SENTENCES, len(originals.dataset)))
            model.check([originals.texts(number)[0] for number in numbers], str(data))
            break
    return model.splitter()
