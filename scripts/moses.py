"""Tokenise parallel text as the Moses scripts do, and clean the training set.

    python scripts/moses.py TEXT_DIR OUT_DIR --languages en de --normalise punctuation --split-hyphens --max-ratio 1.5

Reads TEXT_DIR/{train,valid,test}.LANGUAGE and writes files of the same names to OUT_DIR, and the numbers of pairs to
counts.json. Cleaning drops training pairs that are empty, too long, or too different in length. The valid and test
splits are not cleaned.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

from parallel import add_workers_option, chunks, map_in_order

try:
    import regex
    from sacremoses import MosesPunctNormalizer, MosesTokenizer
except ImportError:
    raise SystemExit("moses.py: error: sacremoses is not installed; run: pip install 'nmt-kd[recipes]'") from None

CONTROL = regex.compile(r"\p{C}")
# older text has s and t with a cedilla instead of the Romanian letters with a comma
ROMANIAN_LETTERS = str.maketrans("ŞşŢţ", "ȘșȚț")
ROMANIAN_PLAIN = str.maketrans("ȘșȚțĂăÂâÎî", "SsTtAaAaIi")


@cache
def normaliser(language: str) -> MosesPunctNormalizer:
    return MosesPunctNormalizer(language, perl_parity=True)


@cache
def tokeniser(language: str) -> MosesTokenizer:
    return MosesTokenizer(language)


def tokenise(line: str, language: str, options: argparse.Namespace) -> str:
    """Return a sentence as tokens separated by spaces."""
    if options.normalise == "punctuation":
        # like remove-non-printing-char.perl; deleting a control character could join two words
        line = CONTROL.sub(" ", normaliser(language).normalize(line))
    elif options.normalise == "apostrophes":
        line = line.replace("\u2019", "'")
    if language == "ro" and options.romanian_diacritics != "keep":
        line = line.translate(ROMANIAN_LETTERS)
        if options.romanian_diacritics == "remove":
            line = line.translate(ROMANIAN_PLAIN)
    tokens = tokeniser(language).tokenize(line, aggressive_dash_splits=options.split_hyphens, return_str=True)
    return tokens.lower() if options.lowercase else tokens


def fault(pair: Iterable[str], options: argparse.Namespace) -> str | None:
    """Return why cleaning drops a training pair, or None if it does not."""
    short, long = sorted(len(tokens.split()) for tokens in pair)
    if short == 0:
        return "empty"
    if long > options.max_tokens:
        return "too_long"
    if long > options.max_ratio * short:
        return "too_different"
    return None


def tokenise_pairs(
    options: argparse.Namespace, clean: bool, pairs: list[tuple[bytes, bytes]]
) -> tuple[list[list[str]], Counter[str]]:
    """Tokenise pairs; return those that are kept, and the number dropped for each reason."""
    kept: list[list[str]] = []
    dropped: Counter[str] = Counter()
    for pair in pairs:
        # crawled text contains invalid bytes
        texts = [line.decode("utf-8", errors="replace") for line in pair]
        tokens = [tokenise(text, language, options) for text, language in zip(texts, options.languages, strict=True)]
        if clean and (reason := fault(tokens, options)):
            dropped[reason] += 1
        else:
            kept.append(tokens)
    return kept, dropped


def read_pairs(folder: Path, split: str, languages: list[str]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the lines of both languages, split at line feeds only and not at Unicode's other line separators."""
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{split}.{language}").open("rb")) for language in languages]
        yield from zip(*files, strict=True)


def tokenise_split(options: argparse.Namespace, split: str) -> dict[str, Counter[str]]:
    """Write a split, and the valid split if it is held out from the training set; return the counts of both."""
    clean = split == "train"
    hold_out = options.hold_out if clean else None
    counts: dict[str, Counter[str]] = {name: Counter(pairs=0) for name in ((split, "valid") if hold_out else (split,))}
    number, dropped = 0, Counter[str]()
    with ExitStack() as stack:
        files = {
            name: [
                stack.enter_context((options.out_dir / f"{name}.{language}").open("w", encoding="utf-8", newline="\n"))
                for language in options.languages
            ]
            for name in counts
        }
        pairs = chunks(read_pairs(options.text_dir, split, options.languages))
        for kept, left_out in map_in_order(partial(tokenise_pairs, options, clean), pairs, options.workers):
            dropped += left_out
            for tokens in kept:
                number += 1
                name = "valid" if hold_out and number % hold_out == 0 else split
                counts[name]["pairs"] += 1
                for file, line in zip(files[name], tokens, strict=True):
                    file.write(line + "\n")
    if clean:
        counts[split] |= {reason: dropped[reason] for reason in ("empty", "too_long", "too_different")}
    return counts


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text_dir", type=Path, nargs="?")
    parser.add_argument("out_dir", type=Path, nargs="?")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--languages", nargs=2)
    which.add_argument("--standard-input", metavar="LANGUAGE", help="tokenise standard input in this language instead")
    parser.add_argument(
        "--normalise",
        choices=["punctuation", "apostrophes"],
        help="normalise punctuation, like normalize-punctuation.perl and remove-non-printing-char.perl, or only "
        "apostrophes",
    )
    parser.add_argument(
        "--split-hyphens", action="store_true", help="split well-known into well @-@ known (Moses's -a)"
    )
    parser.add_argument("--lowercase", action="store_true", help="convert all text to lower case")
    parser.add_argument(
        "--romanian-diacritics",
        choices=["keep", "normalise", "remove"],
        default="keep",
        help="in Romanian text: keep them, replace cedillas by commas, or remove all (default: %(default)s)",
    )
    parser.add_argument("--max-tokens", type=int, default=250, help="longest training sentence (default: %(default)s)")
    parser.add_argument(
        "--max-ratio",
        type=float,
        default=9,
        help="largest ratio of the lengths of a training pair (default: %(default)g)",
    )
    parser.add_argument(
        "--hold-out", type=int, metavar="N", help="use every N-th cleaned training pair as the valid split"
    )
    add_workers_option(parser)
    options = parser.parse_args(arguments)
    if options.standard_input:
        for line in sys.stdin:
            print(tokenise(line.rstrip("\n"), options.standard_input, options), flush=True)
        return
    if options.out_dir is None:
        parser.error("TEXT_DIR and OUT_DIR are required with --languages")

    options.out_dir.mkdir(parents=True, exist_ok=True)
    counts: dict[str, Counter[str]] = {}
    for split in ("train", "test") if options.hold_out else ("train", "valid", "test"):
        counts |= tokenise_split(options, split)
    (options.out_dir / "counts.json").write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    print(", ".join(f"{split}: {count['pairs']:,} pairs" for split, count in counts.items()))
    train = counts["train"]
    print(
        f"dropped from train: {train['empty']:,} empty pairs, {train['too_long']:,} longer than {options.max_tokens} "
        f"tokens, {train['too_different']:,} with one side more than {options.max_ratio:g} times as long as the other"
    )


if __name__ == "__main__":
    main()
