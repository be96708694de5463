"""Find and read the text of a data set in two languages, for scripts/check_text.py and scripts/own_data.py."""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path

MAX_CHARACTERS = 1000  # a sentence has at most as many subwords, and fairseq's models read at most 1024
MAX_HELD_OUT = 1000  # pairs of a validation or test set that is taken from the training text
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
    train_files: tuple[Path, ...] = ()  # instead of those in the folder
    held_out_sizes: tuple[tuple[str, int], ...] = ()  # the splits to take from the training text, with their sizes

    @property
    def languages(self) -> tuple[str, str]:
        return self.source, self.target

    @property
    def name(self) -> str:
        return " and ".join(str(place) for place in self.train_files or (self.folder,))

    @property
    def splits_with_files(self) -> list[str]:
        return [split for split in (*self.test_sets, "valid", "train") if split not in dict(self.held_out_sizes)]

    def file(self, split: str, language: str) -> Path:
        if self.train_files and (split == "train" or split in dict(self.held_out_sizes)):
            return self.train_files[self.languages.index(language)]
        return self.folder / f"{'train' if split in dict(self.held_out_sizes) else split}.{language}"

    def pairs(self, split: str) -> Iterator[tuple[int, str, str]]:
        """Yield line number, source and target sentence of a split, with white space normalised.

        Raises TextError if a line is not UTF-8 or if the files have different numbers of lines.
        """
        if split in dict(self.held_out_sizes):
            yield from sorted((number, *pair) for of, number, *pair in self._taken.values() if of == split)
        elif split == "train" and self.held_out_sizes:
            yield from self._remaining()
        else:
            yield from self._lines(split)

    def _remaining(self) -> Iterator[tuple[int, str, str]]:
        """Yield the training pairs that share no sentence with a pair that is held out."""
        known = {hash_of(text) for _, _, *pair in self._taken.values() for text in pair if len(text) >= LEAK_CHARACTERS}
        for number, source, target in self._lines("train"):
            if _pair_hash(source, target) not in self._taken and not {hash_of(source), hash_of(target)} & known:
                yield number, source, target

    @cached_property
    def _taken(self) -> dict[int, tuple[str, int, str, str]]:
        """The pairs that are held out: split, line number, source and target, by the pair's hash.

        The pairs with the smallest hashes are held out, so that most of them stay the same when text is added.
        """
        wanted = sum(size for _, size in self.held_out_sizes)
        given = {
            hash_of(text)
            for split in self.splits_with_files
            if split != "train"
            for _, *pair in self._lines(split)
            for text in pair
        }
        smallest: dict[int, tuple[int, str, str]] = {}
        heap: list[int] = []  # the same hashes, negated
        lines = 0
        for number, source, target in self._lines("train"):
            lines = number
            hashed = _pair_hash(source, target)
            if not source or not target or max(len(source), len(target)) > MAX_CHARACTERS or hashed in smallest:
                continue
            if hash_of(source) in given or hash_of(target) in given:
                continue
            if len(heap) < wanted:
                heapq.heappush(heap, -hashed)
            elif hashed < -heap[0]:
                del smallest[-heapq.heapreplace(heap, -hashed)]
            else:
                continue
            smallest[hashed] = (number, source, target)
        if 2 * wanted > lines or len(heap) < wanted:
            raise TextError(
                f"{self.file('train', self.source)} has {lines:,} lines, too few to hold out {wanted:,} pairs for "
                "validation and test; choose a smaller --valid-size and --test-size, or give more text"
            )
        splits = [split for split, size in self.held_out_sizes for _ in range(size)]
        return {pair: (split, *smallest[pair]) for split, pair in zip(splits, sorted(smallest), strict=True)}

    def _lines(self, split: str) -> Iterator[tuple[int, str, str]]:
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
        """Return why --clean drops a pair (empty, long or leaked), or None if it is kept."""
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


def _pair_hash(source: str, target: str) -> int:
    return int.from_bytes(hash_of(f"{source}\n{target}"))


def hash_of(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def find_text(
    places: list[Path], languages: list[str] | None = None, valid_size: int | None = None, test_size: int | None = None
) -> ParallelText:
    """Return the text in a folder or in two files, of the source and the target language.

    A validation or test set that is missing is taken from the training text, with the given number of pairs or a tenth
    of them, at most MAX_HELD_OUT. Raises TextError if files are missing or the languages are unclear.
    """
    if len(places) == 2:
        text = _of_files(places[0], places[1], languages)
    elif len(places) == 1:
        text = _of_folder(places[0], languages)
    else:
        raise TextError("give a folder, or two files with the same sentences in two languages")
    sizes, given = [], {"valid": valid_size, "test": test_size}
    for split, size in given.items():
        found = [] if text.train_files else _found(text, split)
        if not found:
            sizes.append((split, size or min(_count_lines(text.file("train", text.source)) // 10, MAX_HELD_OUT) or 1))
        elif size:
            raise TextError(f"--{split}-size is for text without {split}.LANGUAGE; leave it out, or remove {found[0]}")
    return replace(text, held_out_sizes=tuple(sizes))


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _found(text: ParallelText, split: str) -> list[Path]:
    pattern = "test*" if split == "test" else split
    return [path for language in text.languages for path in sorted(text.folder.glob(f"{pattern}.{language}"))]


def _check_languages(languages: list[str]) -> tuple[str, str]:
    source, target = languages
    for language in languages:
        if not re.fullmatch(r"[A-Za-z]\w*", language):
            raise TextError(f"'{language}' in --languages is not a language; use letters and digits, as in en or zh_cn")
    if source == target:
        raise TextError(f"--languages has {source} twice; name the source and the target language")
    return source, target


def _of_files(source_file: Path, target_file: Path, languages: list[str] | None) -> ParallelText:
    for file in (source_file, target_file):
        if not file.is_file():
            raise TextError(f"{file} is not a file; give two files with the same sentences in two languages")
    endings = [file.suffix[1:] for file in (source_file, target_file)]
    if not languages and (endings[0] == endings[1] or not all(re.fullmatch(r"[A-Za-z]\w*", name) for name in endings)):
        raise TextError(
            f"{source_file.name} and {target_file.name} do not end in the names of two languages; add --languages"
            " SOURCE TARGET"
        )
    source, target = _check_languages(languages or endings)
    return ParallelText(source_file.parent, source, target, ("test",), (source_file, target_file))


def _of_folder(folder: Path, languages: list[str] | None) -> ParallelText:
    if not folder.is_dir():
        raise TextError(f"{folder} is not a folder; give the one with train.LANGUAGE, or two files")
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
    source, target = _check_languages(languages)
    for language in languages:
        if language not in found:
            raise TextError(f"{folder} has no train.{language}; its languages are {', '.join(found)} (see --languages)")
    names = {
        path.name.removesuffix(f".{language}") for language in languages for path in folder.glob(f"test*.{language}")
    }
    # the first is the one that fairseq calls test
    test_sets = tuple(sorted(names, key=lambda name: (name != "test", name))) or ("test",)
    text = ParallelText(folder, source, target, test_sets)
    for split in [split for split in ("valid", *test_sets) if _found(text, "test" if split in test_sets else split)]:
        if not re.fullmatch(r"[\w.-]+", split):
            raise TextError(f"rename {folder}/{split}.*; use only letters, digits, '.', '_' and '-' for a test set")
        for language in languages:
            if not text.file(split, language).is_file():
                both = f"{split}.{source} and {split}.{target}"
                raise TextError(f"{folder} has no {split}.{language}; {HELD_OUT.format(both)}")
    return text
