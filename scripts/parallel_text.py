"""Find and read the text of a data set in two languages, for scripts/check_text.py and scripts/own_data.py."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path

MAX_CHARACTERS = 1000  # a sentence has at most as many subwords, and fairseq's models read at most 1024
LEAK_CHARACTERS = 20  # shorter sentences, such as "Thank you.", may be in any text
HELD_OUT = "put a few hundred sentence pairs that are not in the training text into {}"


class TextError(Exception):
    """Text that cannot be used. Its message is a single line."""


@dataclass(frozen=True)
class ParallelText:
    """The files of a data set in two languages."""

    folder: Path
    source: str
    target: str
    test_sets: tuple[str, ...]

    @property
    def languages(self) -> tuple[str, str]:
        return self.source, self.target

    def file(self, split: str, language: str) -> Path:
        return self.folder / f"{split}.{language}"

    def pairs(self, split: str) -> Iterator[tuple[int, str, str]]:
        """Yield line number, source and target sentence, with white space normalised.

        Raises TextError if a line is not UTF-8 or if the files have different numbers of lines.
        """
        files = [self.file(split, language) for language in self.languages]
        counts = [0, 0]
        with files[0].open("rb") as sources, files[1].open("rb") as targets:
            for number, lines in enumerate(zip_longest(sources, targets), 1):
                for side, line in enumerate(lines):
                    counts[side] += line is not None
                if None not in lines:
                    source, target = (_decoded(line, file, number) for line, file in zip(lines, files, strict=True))
                    yield number, source, target
        if counts[0] != counts[1]:
            raise TextError(
                f"{files[0]} has {counts[0]:,} lines but {files[1]} has {counts[1]:,}; every line must be the "
                "translation of the same line in the other file"
            )

    @cached_property
    def held_out(self) -> tuple[set[bytes], set[bytes]]:
        """The hashes of the validation and test sentences, source and target, that are long enough to be recognised."""
        found: tuple[set[bytes], set[bytes]] = set(), set()
        for split in ("valid", *self.test_sets):
            for _, *sentences in self.pairs(split):
                for known, sentence in zip(found, sentences, strict=True):
                    if len(sentence) >= LEAK_CHARACTERS:
                        known.add(hash_of(sentence))
        return found

    def fault(self, split: str, source: str, target: str) -> str | None:
        """Return the reason for which --clean drops a pair (a key of DROPPED), or None."""
        if not source or not target:
            return "empty"
        if max(len(source), len(target)) > MAX_CHARACTERS:
            return "long"
        if split == "train" and (hash_of(source) in self.held_out[0] or hash_of(target) in self.held_out[1]):
            return "leaked"
        return None


def _decoded(line: bytes, file: Path, number: int) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{file}, line {number}, is not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start + 1}); "
            f"convert the file, for example with: iconv -f latin1 -t utf-8 {file.name}"
        ) from None
    return " ".join(text.replace("\0", " ").split())


def hash_of(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def find_text(folder: Path, languages: list[str] | None = None) -> ParallelText:
    """Return the text in a folder; raises TextError if files are missing or the languages are unclear."""
    if not folder.is_dir():
        raise TextError(f"{folder} is not a folder; give the one with train.LANGUAGE, valid.LANGUAGE and test.LANGUAGE")
    found = sorted(path.suffix[1:] for path in folder.glob("train.*") if path.is_file() and path.name.count(".") == 1)
    if not found:
        raise TextError(f"{folder} has no train.LANGUAGE, such as train.en and train.fr")
    if not languages:
        if len(found) != 2:
            names = ", ".join(f"train.{language}" for language in found)
            raise TextError(f"{folder} has {names}; name the source and the target language with --languages")
        one, other = found
        raise TextError(
            f"{folder} has text in {one} and {other}; add --languages {one} {other} to translate from {one}, or "
            f"--languages {other} {one} to translate from {other}"
        )
    source, target = languages
    for language in languages:
        if not re.fullmatch(r"[A-Za-z]\w*", language):
            raise TextError(f"'{language}' in --languages is not a language; use letters and digits, as in en or zh_cn")
        if language not in found:
            raise TextError(f"{folder} has no train.{language}; its languages are {', '.join(found)} (see --languages)")
    if source == target:
        raise TextError(f"--languages has {source} twice; name the source and the target language")
    names = {
        path.name.removesuffix(f".{language}") for language in languages for path in folder.glob(f"test*.{language}")
    }
    # the first is the one that fairseq calls test
    test_sets = tuple(sorted(names, key=lambda name: (name != "test", name))) or ("test",)
    text = ParallelText(folder, source, target, test_sets)
    for split in ("valid", *test_sets):
        if not re.fullmatch(r"[\w.-]+", split):
            raise TextError(f"rename {folder}/{split}.*; use only letters, digits, '.', '_' and '-' for a test set")
        for language in languages:
            if not text.file(split, language).is_file():
                both = f"{split}.{source} and {split}.{target}"
                raise TextError(f"{folder} has no {split}.{language}; {HELD_OUT.format(both)}")
    return text
