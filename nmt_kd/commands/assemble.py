"""Make one training corpus for fairseq-train from teachers' translations, in the order of the data.

Each FOLDER was written by fairseq-generate --task seq_kd, nmt-kd decode or nmt-kd import. FOLDER=PARTS lists the parts
of the corpus that are made from it, joined by "+"; a folder without PARTS has those of --corpus:

  base    the original pairs
  kd      the best hypotheses
  best-N  the N best hypotheses, each as a pair
  inter   the hypotheses closest to the references
  mbr     the hypotheses with the highest mean utility, with the other hypotheses as references (chrF, or --mbr-comet)
  qe      the hypotheses that a reference-free COMET model prefers (--qe-comet)
  bt      for a folder decoded in the reverse direction: its best hypotheses as sources of the texts they translate

With noise or --subword-sampling, the corpus is repeated in --copies, whose sources have noise or other subwords. The
scores for mbr, qe and --drop-worst are stored in the decoded folders. Rerun to resume.
"""

import argparse
import re
from contextlib import contextmanager
from pathlib import Path

from nmt_kd.data import pairs_of_data
from nmt_kd.decoding.copies import Copies, CopyOptions
from nmt_kd.decoding.corpus import Corpus, Report
from nmt_kd.decoding.filters import Filters, parse_share
from nmt_kd.decoding.noise import Noise
from nmt_kd.decoding.opened import Student, have_text, languages_of, open_decodings
from nmt_kd.decoding.originals import Originals
from nmt_kd.decoding.parts import CorpusFolder, parse_folders
from nmt_kd.decoding.similarity import SIMILARITIES
from nmt_kd.decoding.utilities import ChrfUtility, CometQuality, CometUtility, ReverseScorer, Scorer
from nmt_kd.decoding.writing import binarise, check_output, write_corpus
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1, add_flags, values_of
from nmt_kd.storage.atomic import atomic_folder
from nmt_kd.subword_model import SubwordModel
from nmt_kd.translators.opening import open_translator
from nmt_kd.translators.translator import TeacherOptions

CHECKED_SENTENCES = 200  # of the student's data, to see whether it was split with the subword model

EXAMPLE = (
    "nmt-kd assemble decoded=base+kd monolingual=kd reverse=bt --data data-bin --subword-model subwords.model "
    "--output data-bin-all"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="FOLDER[=PARTS]", help="decoded folders; see above")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with the binarised data that was decoded or, for folders with text, the student's data",
    )
    parser.add_argument(
        "--corpus", metavar="PARTS", default="kd", help="parts of folders without =PARTS (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the binarised corpus")
    parser.add_argument("--source-lang", help="language of the sources in --data (default: as it was decoded)")
    parser.add_argument("--target-lang", help="language of the translations in --data (default: as it was decoded)")
    parser.add_argument(
        "--similarity",
        choices=SIMILARITIES,
        default="bleu",
        help="measure of closeness for inter (default: %(default)s)",
    )
    parser.add_argument(
        "--mbr-comet", metavar="MODEL", help="for mbr: a COMET model, as a folder or a name on the hub, instead of chrF"
    )
    parser.add_argument("--qe-comet", metavar="MODEL", help="for qe: a reference-free COMET model")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes for copies and for binarising (default: %(default)s)"
    )
    parser.add_argument(
        "--subword-model",
        type=Path,
        help="sentencepiece model or BPE codes that split the student's data; needed for text and for copies",
    )
    copies = parser.add_argument_group("several copies of the corpus, whose sources have noise or other subwords")
    add_flags(copies, CopyOptions)
    add_flags(copies, Noise)
    text = parser.add_argument_group("for folders with text, written by nmt-kd decode or nmt-kd import")
    text.add_argument(
        "--references",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="references, one per line, parallel to the sources; needed for base and inter",
    )
    filters = parser.add_argument_group("filters of decoded pairs; original pairs are left out only as duplicates")
    filters.add_argument(
        "--max-length-ratio",
        type=float,
        metavar="R",
        help="leave out pairs in which one side has more than R times as many subwords as the other",
    )
    filters.add_argument("--drop-loops", action="store_true", help="leave out pairs whose target has a repetition loop")
    filters.add_argument(
        "--drop-copies", action="store_true", help="leave out pairs whose target is the same text as the source"
    )
    filters.add_argument(
        "--deduplicate",
        action="store_true",
        help="leave out pairs that are already in the corpus, including original ones",
    )
    filters.add_argument(
        "--drop-worst",
        metavar="SHARE",
        help="leave out this share, such as 5%%, of the pairs: those whose source is least probable given the target, "
        "per token, under --reverse-model; does not apply to bt",
    )
    reverse = parser.add_argument_group("for --drop-worst")
    reverse.add_argument(
        "--reverse-model",
        metavar="TEACHER",
        help="model that translates from target to source; any teacher of nmt-kd decode",
    )
    reverse.add_argument(
        "--reverse-data", metavar="DATA", help="for a fairseq checkpoint: folder with its dictionaries"
    )
    reverse.add_argument(
        "--reverse-subword-model", type=Path, help="for a fairseq or CTranslate2 model: its subword model"
    )
    reverse.add_argument(
        "--reverse-target-subword-model", type=Path, help="subword model of its target side, if different"
    )
    reverse.add_argument("--reverse-source-lang", help="the corpus's target language, as the reverse model names it")
    reverse.add_argument("--reverse-target-lang", help="the corpus's source language, as the reverse model names it")


def run(args: argparse.Namespace) -> None:
    AT_LEAST_1.check("--workers", args.workers)
    folders = parse_folders(args.folders, args.corpus)
    filters = Filters(
        args.max_length_ratio,
        args.drop_loops,
        args.drop_copies,
        parse_share(args.drop_worst or "0"),
        args.deduplicate,
    )
    filters.check()
    check_output(args.output)
    _check_models(args, folders)
    languages = languages_of(folders)
    source_lang, target_lang = args.source_lang or languages[0], args.target_lang or languages[1]
    model = split = None
    if args.subword_model:
        sides = 2 if have_text(folders) else 1  # copies have only their sources split
        model = _student_model(args.subword_model, args.data, source_lang, target_lang, sides)
        split = model.splitter()
    copies = Copies.open(model, values_of(CopyOptions, args), values_of(Noise, args))
    named = bool(args.source_lang or args.target_lang)
    student = Student(args.data, source_lang, target_lang, named, split, args.references)
    decodings = open_decodings(folders, student)
    dictionaries = dict(zip((source_lang, target_lang), student.dictionaries, strict=True))
    corpus = Corpus(decodings, filters, args.similarity, _scorers(args, folders, student))
    corpus.compute_scores()
    with atomic_folder(args.output) as output:
        count = write_corpus(corpus.candidates(), output / "text", dictionaries, filters, corpus.report)
        of_copies: list[str] = []
        if copies:
            source, target = (output / f"text/train.{language}" for language in dictionaries)
            known = frozenset(student.dictionaries[0].symbols)
            of_copies = copies.report(copies.write(source, target, known, args.workers))
            count *= copies.options.copies
        binarise(output / "text", args.data, output, source_lang, target_lang, args.workers)
    _print(corpus.report)
    for line in of_copies:
        print(line)
    print(f"wrote {count:,} pairs to {args.output}, binarised, and as text to {args.output / 'text'}")


def _check_models(args: argparse.Namespace, folders: list[CorpusFolder]) -> None:
    """Raise UserError if a model that is needed is missing, or one that is given is not needed."""
    parts = {part.name: part for folder in folders for part in folder.parts}
    if "qe" in parts and not args.qe_comet:
        raise UserError("'qe' needs a reference-free COMET model; give it as --qe-comet")
    for name, flag, value in (("mbr", "--mbr-comet", args.mbr_comet), ("qe", "--qe-comet", args.qe_comet)):
        if value and name not in parts:
            raise UserError(f"{flag} is for the part {name!r}, which no folder has; add the part or leave out {flag}")
    given = [name for name in vars(args) if name.startswith("reverse_") and getattr(args, name)]
    if args.drop_worst and not args.reverse_model:
        raise UserError("--drop-worst needs a model of the reverse direction; give it as --reverse-model")
    if given and not args.drop_worst:
        flag = "--" + given[0].replace("_", "-")
        raise UserError(f"{flag} is for --drop-worst; give the share to drop, such as --drop-worst 5%, or leave it out")
    if args.drop_worst and not any(part.has_translated_targets for part in parts.values()):
        raise UserError("--drop-worst applies to translations, and the corpus has none; leave it out")


def _student_model(path: Path, data: Path, source_lang: str, target_lang: str, sides: int) -> SubwordModel:
    """Return the subword model at `path`.

    Raises UserError if it does not split text as the sources in `data` were split, and with 2 `sides`, the targets.
    """
    model = SubwordModel.read(path)
    for subset in ("valid", "train"):
        pairs = pairs_of_data(source_lang, target_lang)
        if any((data / f"{subset}.{pair}.{source_lang}.idx").is_file() for pair in pairs):
            originals = Originals.load(data, source_lang, target_lang, subset)
            pairs_of_texts = map(originals.texts, range(min(CHECKED_SENTENCES, len(originals.dataset))))
            for texts in list(zip(*pairs_of_texts, strict=True))[:sides]:
                model.check(list(texts), str(data))
            break
    return model


def _scorers(args: argparse.Namespace, folders: list[CorpusFolder], student: Student) -> dict[str, Scorer]:
    """Load the models that score hypotheses, by name: mbr, qe and reverse."""
    parts = {part.name for folder in folders for part in folder.parts}
    scorers: dict[str, Scorer] = {}
    if "mbr" in parts:
        scorers["mbr"] = CometUtility(args.mbr_comet) if args.mbr_comet else ChrfUtility()
    if "qe" in parts:
        scorers["qe"] = CometQuality(args.qe_comet)
    if args.drop_worst:
        with _naming_flags():
            options = TeacherOptions(
                args.reverse_model,
                data=args.reverse_data,
                subword_model=args.reverse_subword_model,
                target_subword_model=args.reverse_target_subword_model,
                source_lang=args.reverse_source_lang or student.target_lang,
                target_lang=args.reverse_target_lang or student.source_lang,
            )
            scorers["reverse"] = ReverseScorer(open_translator(options))
    return scorers


@contextmanager
def _naming_flags():
    """Rename the flags in errors about the reverse model: --data is --reverse-data here, and so on."""
    try:
        yield
    except UserError as error:
        names = "data|subword-model|target-subword-model|source-lang|target-lang"
        raise UserError(re.sub(rf"--(?=({names})\b)", "--reverse-", str(error))) from None


def _print(report: Report) -> None:
    for label, number in report.pairs.items():
        print(f"{label}: {number:,} pairs")
    for reason, number in report.dropped.items():
        if number:
            print(f"left out, {reason}: {number:,}")
    if report.unknown_left_out:
        print(f"left out of translations: {report.unknown_left_out:,} unknown symbols")
    for language, number in report.unknown.items():
        print(f"not in dict.{language}.txt, binarised as unknown: {number:,} symbols")
