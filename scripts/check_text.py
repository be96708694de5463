"""Check the text of a data set before it is prepared.

    python scripts/check_text.py FOLDER --languages en fr
    python scripts/check_text.py FOLDER --languages en fr --vocabulary-size 8000 --clean
    python scripts/check_text.py FILE.en FILE.fr --valid-size 500 --test-size 500

FOLDER contains train.LANGUAGE, valid.LANGUAGE and test*.LANGUAGE (one or more test sets) as plain UTF-8 text, one
sentence per line. Without a validation or test set, one is taken from the training text; two files can take the place
of a folder with training text only. Prints one line for each kind of problem, which says what is wrong, where, and what
to do, and exits with 1 if there is any. With --clean, pairs that scripts/prepare.sh --clean drops are counted but not
errors. Memory grows by one hash for each distinct pair, not with the length of the text.
"""

import argparse
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from parallel_text import HELD_OUT, MAX_CHARACTERS, ParallelText, TextError, find_text, hash_of

MAX_COUNTED_WORDS = 200_000  # enough for any vocabulary; limits the memory
SUBWORD_CHARACTERS = 15  # sentencepiece learns no longer subwords, apart from the mark of a word's beginning
SPECIAL_SUBWORDS = 4  # unknown, beginning and end of sentence, space
DROPPED = {
    "empty": "have an empty side",
    "long": f"have a side of more than {MAX_CHARACTERS:,} characters",
    "leaked": "contain a validation or test sentence",
}


@dataclass
class Report:
    """What a check has found: problems and notes as lines of text, and counts of the training text."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pairs: int = 0  # that remain for training
    characters: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)  # up to MAX_COUNTED_WORDS

    @property
    def least_vocabulary(self) -> int:
        return len(self.characters) + SPECIAL_SUBWORDS

    @property
    def largest_vocabulary(self) -> int:
        """A vocabulary size that the training text supports: a subword for each character and each distinct word."""
        return self.least_vocabulary + len(self.words)


def check(text: ParallelText, clean: bool = False, vocabulary_size: int | None = None) -> Report:
    """Check all files of a data set; with `clean`, pairs that can be dropped are notes instead of problems."""
    report = Report()
    for split in text.splits_with_files:
        empty = [str(file) for language in text.languages if not (file := text.file(split, language)).stat().st_size]
        if empty:
            what = HELD_OUT.format("it") if split != "train" else "put one sentence per line into it"
            report.problems.append(f"{' and '.join(empty)} {'are' if len(empty) > 1 else 'is'} empty; {what}")
    if report.problems:
        return report
    readable = True
    for split in (*text.test_sets, "valid", "train"):
        if split == "train" and not readable:
            break  # the validation and test sentences are not known
        try:
            _check_split(text, split, clean, report)
        except TextError as error:
            if str(error) not in report.problems:
                report.problems.append(str(error))
            readable = False
    if vocabulary_size and not report.problems:
        _check_vocabulary(report, vocabulary_size)
    return report


def _check_split(text: ParallelText, split: str, clean: bool, report: Report) -> None:
    source_file, target_file = (text.file(split, language) for language in text.languages)
    faults: Counter[str] = Counter()
    first: dict[str, str] = {}
    seen: set[bytes] = set()
    total = same = repeated = 0
    for number, source, target in text.pairs(split):
        total += 1
        if fault := text.fault(split, source, target):
            faults[fault] += 1
            file = target_file if fault == "empty" and source else source_file
            if fault == "long" and len(source) <= MAX_CHARACTERS:
                file = target_file
            first.setdefault(fault, f"{file}, line {number}")
            continue
        same += source == target
        if split == "train":
            hashed = hash_of(f"{source}\n{target}")
            repeated += hashed in seen
            if hashed in seen:
                first.setdefault("repeated", f"{source_file}, line {number}")
            seen.add(hashed)
            _count_words(f"{source} {target}", report)
    kept = total - faults.total()
    if 2 * same > kept > 0:
        report.problems.append(
            f"{source_file} and {target_file} are the same text ({same:,} of {kept:,} lines are equal); replace "
            "one of them by its translation"
        )
        return
    for fault, count in faults.items():
        where = f"{count:,} pair{'s' if count > 1 else ''} of {split}"
        has = DROPPED[fault] if count > 1 else re.sub("^have", "has", DROPPED[fault]).replace("contain ", "contains ")
        if clean:
            report.notes.append(f"dropping {where} that {has}, first {first[fault]}")
        else:
            drop = "remove" if fault != "long" else "split or remove"
            them = "them" if count > 1 else "it"
            report.problems.append(f"{first[fault]}: {where} {has}; {drop} {them}, or drop {them} with --clean")
    if clean and not kept:
        report.problems.append(f"{source_file} and {target_file} have no pair that --clean keeps; give other text")
    if repeated:
        where = f"{repeated:,} pair{'s' if repeated > 1 else ''} of {split}"
        report.notes.append(f"keeping {where} that already occurred, first {first['repeated']}")
    if split == "train":
        report.pairs = kept
        for held_out, size in text.held_out_sizes:
            report.notes.append(f"holding out {size:,} pairs of the training text as {held_out}")


def _count_words(sentence: str, report: Report) -> None:
    report.characters.update(sentence.replace(" ", ""))
    if len(report.words) < MAX_COUNTED_WORDS:
        report.words.update(word[:SUBWORD_CHARACTERS] for word in re.findall(r"\w{2,}", sentence))


def _check_vocabulary(report: Report, vocabulary_size: int) -> None:
    least, largest = report.least_vocabulary, report.largest_vocabulary
    if vocabulary_size > largest and len(report.words) < MAX_COUNTED_WORDS:
        report.problems.append(
            f"a vocabulary of {vocabulary_size:,} subwords is larger than the {report.pairs:,} training pairs support; "
            f"choose --vocabulary-size {largest} or less, or leave it out"
        )
    elif vocabulary_size < least:
        report.problems.append(
            f"a vocabulary of {vocabulary_size:,} subwords is smaller than the number of different characters in the "
            f"training text; choose --vocabulary-size {least} or more, or leave it out"
        )


def positive(value: str) -> int:
    """Return a number given as an argument, which must be 1 or more."""
    if not re.fullmatch(r"0*[1-9][0-9]*", value):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of 1 or more")
    return int(value)


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a text."""
    parser.add_argument("text", type=Path, nargs="+", metavar="FOLDER_OR_FILE", help="a folder, or two files")
    parser.add_argument("--languages", nargs=2, help="source and target language, as in the file names")
    for split in ("valid", "test"):
        help_text = (
            f"pairs to hold out from the training text if {split}.LANGUAGE is missing (default: a tenth, up to 1,000)"
        )
        parser.add_argument(f"--{split}-size", type=positive, metavar="N", help=help_text)


def text_of(args: argparse.Namespace) -> ParallelText:
    """Return the text that the arguments choose; ends the program if it cannot be found."""
    try:
        return find_text(args.text, args.languages, args.valid_size, args.test_size)
    except TextError as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: error: {error}") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose and check a text."""
    add_text_arguments(parser)
    parser.add_argument("--vocabulary-size", type=int, help="number of subwords that the text must support")
    parser.add_argument(
        "--clean", action="store_true", help="count pairs that can be dropped instead of reporting them as errors"
    )


def checked(args: argparse.Namespace) -> tuple[ParallelText, Report]:
    """Return the text that the arguments name and the report on it; ends the program if there is any problem."""
    name = Path(sys.argv[0]).name
    text = text_of(args)
    report = check(text, args.clean, args.vocabulary_size)
    if report.problems:
        raise SystemExit("\n".join(f"{name}: error: {problem}" for problem in report.problems))
    for note in report.notes:
        print(f"{name}: {note}", file=sys.stderr)
    return text, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    text, report = checked(parser.parse_args())
    print(f"{text.name}: {report.pairs:,} training pairs, {' '.join(text.languages)}, {', '.join(text.test_sets)}")


if __name__ == "__main__":
    main()
