"""Copies of a corpus whose sources are split into subwords anew, so that a student sees each in several splits.

A corpus is binarised before the training, which cannot split it itself: one epoch of N copies stands for N epochs.
Targets are not split anew: the student has to write them, and every word has one best split.
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Container
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import sentencepiece

from nmt_kd.errors import UserError
from nmt_kd.options import SHARE, Allowed, check_options, option
from nmt_kd.subword_model import MAX_CACHED_WORDS, UNKNOWN, SubwordModel, load_bpe

Draw = Callable[[str, int], list[str]]  # a text and a seed into subwords


@dataclass(frozen=True)
class SamplingOptions:
    """How the copies are split."""

    subword_sampling: float = option(
        0.0,
        "split sources at random: the share of merges that BPE leaves out or, for a unigram model, sentencepiece's "
        "alpha, of which lower values vary more; 0 splits all copies as usual",
        SHARE,
    )
    subword_copies: int = option(
        4, "copies of the corpus; the first is split as usual", Allowed("2 or more", lambda value: value >= 2)
    )
    seed: int = option(1, "seed of the splits, which depend on it, the copy and the place of a pair alone")


class Counts(NamedTuple):
    """What came of the sources of the copies."""

    sources: int
    changed: int  # those that are split in another way than usual
    words: int
    kept: int  # words split as usual because a subword is not in the dictionary

    def __str__(self) -> str:
        return (
            f"split anew: {self.changed:,} of {self.sources:,} sources of the copies\n"
            f"split as usual, for want of a subword in the dictionary: {self.kept:,} of {self.words:,} words"
        )


@dataclass(frozen=True)
class SubwordSampling:
    """Splits sources at random, in the subwords of a dictionary."""

    model: SubwordModel
    options: SamplingOptions

    @classmethod
    def open(cls, model: SubwordModel | None, given: dict) -> "SubwordSampling | None":
        """Return what splits sources with the `given` options, or None if they ask for no sampling.

        Raises UserError for a value that is not allowed, and for a model that cannot split at random.
        """
        if "subword_sampling" not in given:
            for name in given:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} is for --subword-sampling; give it, too, such as 0.1, or leave out {flag}")
            return None
        options = SamplingOptions(**given)
        check_options(asdict(options), SamplingOptions)
        if model is None:
            raise UserError("--subword-sampling needs the model that split the data; give it as --subword-model")
        sampling = cls(model, options)
        sampling.draw()
        return sampling

    def write_copies(self, source: Path, target: Path, known: Container[str], workers: int = 1) -> Counts:
        """Append the further copies of the corpus to both of its files, and return what came of the sources.

        `known` are the symbols that a source may have. The result does not depend on `workers`.
        """
        numbers = range(1, self.options.subword_copies)
        with tempfile.TemporaryDirectory(dir=source.parent) as folder, ExitStack() as pools:
            workers = min(workers, len(numbers))
            in_order = pools.enter_context(ProcessPoolExecutor(workers)).map if workers > 1 else map
            first = shutil.copyfile(target, Path(folder) / "target")
            paths = [Path(folder) / str(number) for number in numbers]
            counts = list(in_order(partial(self._write_copy, source, known), numbers, paths))
            _append(source, paths)
            _append(target, [first] * len(numbers))
        return Counts(*map(sum, zip(*counts, strict=True)))

    def _write_copy(self, source: Path, known: Container[str], copy: int, path: Path) -> Counts:
        draw, changed, words, kept, number = self.draw(), 0, 0, 0, -1
        with ExitStack() as files:
            lines = files.enter_context(source.open(encoding="utf-8", newline="\n"))
            out = files.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            for number, line in enumerate(lines):
                usual = line.split()
                drawn = draw(self.model.text(" ".join(usual)), _seed(self.options.seed, copy, number))
                pairs = self._words(drawn, usual)
                keep = [not all(symbol in known for symbol in one) or UNKNOWN in other for one, other in pairs]
                chosen = [pair[is_kept] for pair, is_kept in zip(pairs, keep, strict=True)]
                symbols = [symbol for word in chosen for symbol in word]
                out.write(" ".join(symbols) + "\n")
                changed, words, kept = changed + (symbols != usual), words + len(pairs), kept + sum(keep)
        return Counts(number + 1, changed, words, kept)

    def _words(self, drawn: list[str], usual: list[str]) -> list[tuple[list[str], list[str]]]:
        """Return the words of a sentence in both splits; the whole sentence is one word if they do not fit together."""
        if self.model.text(" ".join(drawn)) != self.model.text(" ".join(usual)):
            return [(usual, usual)]
        sides = self.model.words(drawn), self.model.words(usual)
        return list(zip(*sides, strict=True)) if len(sides[0]) == len(sides[1]) else [(drawn, usual)]

    def draw(self) -> Draw:
        """Return a function that splits a text with a seed; UserError if the model cannot split at random."""
        alpha = self.options.subword_sampling
        if not alpha:
            split = self.model.splitter()
            return lambda text, seed: split(text).split()
        return _sentencepiece(self.model, alpha) if self.model.kind == "sentencepiece" else _bpe(self.model, alpha)


def _sentencepiece(model: SubwordModel, alpha: float) -> Draw:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model.path))

    def draw(text: str, seed: int, alpha: float = alpha) -> list[str]:
        sentencepiece.set_random_generator_seed(seed)
        return processor.encode(text, out_type=str, enable_sampling=True, alpha=alpha, nbest_size=-1)

    def draw_in_thread(text: str, seed: int) -> list[str]:
        found: list[list[str]] = []
        thread = Thread(target=lambda: found.append(draw(text, seed)))
        thread.start()
        thread.join()
        return found[0]

    letters = "".join(processor.id_to_piece(number) for number in range(min(300, len(processor))))
    try:
        repeats = draw(letters, 1, 0.5) == draw(letters, 1, 0.5)
    except RuntimeError:
        raise UserError(
            f"{model.path} splits into words or characters, which is possible in one way only; leave out "
            "--subword-sampling"
        ) from None
    return draw if repeats else draw_in_thread  # before sentencepiece 0.2.3, only new threads heed a seed


def _bpe(model: SubwordModel, alpha: float) -> Draw:
    bpe = load_bpe(model.path)

    def draw(text: str, seed: int) -> list[str]:
        if len(bpe.cache) > MAX_CACHED_WORDS:
            bpe.cache.clear()
        random.seed(seed)  # which subword-nmt draws from
        return bpe.segment_tokens(text.split(" "), alpha)

    return draw


def _seed(seed: int, copy: int, number: int) -> int:
    """Return a seed of 31 bits: sentencepiece takes the largest of 32 bits to mean none."""
    return int.from_bytes(blake2b(f"{seed} {copy} {number}".encode(), digest_size=4).digest()) >> 1


def _append(file: Path, others: list[Path]) -> None:
    with file.open("ab") as out:
        for other in others:
            with other.open("rb") as content:
                shutil.copyfileobj(content, out)
