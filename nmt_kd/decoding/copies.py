"""Copies of a corpus with other sources: with noise, or split into subwords anew. Their targets stay the same.

A corpus is binarised before the training, which cannot change it itself: one epoch of N copies stands for N epochs.
Targets are not split anew: the student has to write them, and every word has one best split.
"""

import shutil
import tempfile
from collections.abc import Container
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from nmt_kd.decoding.noise import Noise
from nmt_kd.decoding.subword_sampling import random_splitter
from nmt_kd.errors import UserError
from nmt_kd.options import SHARE, Allowed, check_options, flag, option
from nmt_kd.subword_model import UNKNOWN, SubwordModel


@dataclass(frozen=True)
class CopyOptions:
    """How the copies differ from the corpus, apart from noise."""

    subword_sampling: float = option(
        0.0,
        "split sources at random: for BPE, the share of merges to leave out; for a unigram model, sentencepiece's "
        "alpha, where lower values vary more; 0 splits all copies as usual",
        SHARE,
    )
    copies: int = option(
        4, "copies of the corpus; the first is the corpus itself", Allowed("2 or more", lambda value: value >= 2)
    )
    seed: int = option(1, "seed of the noise and the random splits")


class Counts(NamedTuple):
    """How many sources of the copies were changed, and how."""

    sources: int
    noisy: int  # those whose text has changed
    unspellable: int  # those without their noise, because a subword of it is not in the dictionary
    changed: int  # those that are split in another way than usual
    words: int
    kept: int  # words split as usual because a subword is not in the dictionary


@dataclass(frozen=True)
class Copies:
    """Writes copies of a corpus, in the subwords of a dictionary."""

    model: SubwordModel
    options: CopyOptions
    noise: Noise | None
    is_split_anew: bool

    @classmethod
    def open(cls, model: SubwordModel | None, given: dict, given_noise: dict) -> "Copies | None":
        """Return what writes copies with the given values of CopyOptions and Noise, or None without noise and sampling.

        Raises UserError for a value that is not allowed, and for a model that cannot split at random.
        """
        is_split_anew = "subword_sampling" in given
        if not is_split_anew and not given_noise:
            for name in map(flag, given):
                raise UserError(
                    f"{name} is for copies with --subword-sampling or noise; give one of these, such as "
                    f"--subword-sampling 0.1, or leave out {name}"
                )
            return None
        options, noise = CopyOptions(**given), Noise(**given_noise)
        check_options(asdict(options), CopyOptions)
        check_options(asdict(noise), Noise)
        if model is None:
            name = "--subword-sampling" if is_split_anew else "noise"
            raise UserError(f"{name} needs the model that split the data; give it as --subword-model")
        random_splitter(model, options.subword_sampling)
        return cls(model, options, noise if given_noise else None, is_split_anew)

    def write(self, source: Path, target: Path, known: Container[str], workers: int = 1) -> Counts:
        """Append the further copies of the corpus to both of its files, and return the counts.

        `known` are the symbols of the sources' dictionary. The result does not depend on `workers`.
        """
        numbers = range(1, self.options.copies)
        with tempfile.TemporaryDirectory(dir=source.parent) as folder, ExitStack() as pools:
            workers = min(workers, len(numbers))
            in_order = pools.enter_context(ProcessPoolExecutor(workers)).map if workers > 1 else map
            first = shutil.copyfile(target, Path(folder) / "target")
            paths = [Path(folder) / str(number) for number in numbers]
            counts = list(in_order(partial(self._write_copy, source, known), numbers, paths))
            _append(source, paths)
            _append(target, [first] * len(numbers))
        return Counts(*map(sum, zip(*counts, strict=True)))

    def report(self, counts: Counts) -> list[str]:
        """Return the lines that tell a user what came of the sources."""
        lines = []
        of_all = f"of {counts.sources:,} sources of the copies"
        if self.noise:
            lines.append(f"with noise: {counts.noisy:,} {of_all}")
            lines.append(f"without noise because a subword is not in the dictionary: {counts.unspellable:,} {of_all}")
        if self.is_split_anew:
            lines.append(f"split differently: {counts.changed:,} {of_all}")
            lines.append(
                f"split as usual because a subword is not in the dictionary: {counts.kept:,} of {counts.words:,} words"
            )
        return lines

    def _write_copy(self, source: Path, known: Container[str], copy: int, path: Path) -> Counts:
        split, draw = self.model.splitter(), random_splitter(self.model, self.options.subword_sampling)
        noisy, unspellable, changed, words, kept, number = 0, 0, 0, 0, 0, -1
        with ExitStack() as files:
            lines = files.enter_context(source.open(encoding="utf-8", newline="\n"))
            out = files.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            for number, line in enumerate(lines):
                seed = _seed(self.options.seed, copy, number)
                usual = line.split()
                clean = text = self.model.text(" ".join(usual))
                if self.noise and UNKNOWN not in line:  # whose letters are not text
                    text = self.noise(clean, seed, number)
                if text != clean:
                    with_noise = split(text).split()
                    if all(symbol in known for symbol in with_noise):
                        noisy, usual = noisy + 1, with_noise
                    else:
                        unspellable, text = unspellable + 1, clean
                pairs = self._words(draw(text, seed), usual)
                keep = [not all(symbol in known for symbol in one) or UNKNOWN in other for one, other in pairs]
                chosen = [pair[is_kept] for pair, is_kept in zip(pairs, keep, strict=True)]
                symbols = [symbol for word in chosen for symbol in word]
                out.write(" ".join(symbols) + "\n")
                changed, words, kept = changed + (symbols != usual), words + len(pairs), kept + sum(keep)
        return Counts(number + 1, noisy, unspellable, changed, words, kept)

    def _words(self, drawn: list[str], usual: list[str]) -> list[tuple[list[str], list[str]]]:
        """Return the words of a sentence in both splits; the whole sentence is one word if they do not fit together."""
        if self.model.text(" ".join(drawn)) != self.model.text(" ".join(usual)):
            return [(usual, usual)]
        sides = self.model.words(drawn), self.model.words(usual)
        return list(zip(*sides, strict=True)) if len(sides[0]) == len(sides[1]) else [(drawn, usual)]


def _seed(seed: int, copy: int, number: int) -> int:
    """Return a seed of 31 bits: sentencepiece takes the largest of 32 bits to mean none."""
    return int.from_bytes(blake2b(f"{seed} {copy} {number}".encode(), digest_size=4).digest()) >> 1


def _append(file: Path, others: list[Path]) -> None:
    with file.open("ab") as out:
        for other in others:
            with other.open("rb") as content:
                shutil.copyfileobj(content, out)
