"""The model that split the text of the data into subwords: a sentencepiece model or BPE codes."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from fairseq.data.data_utils import post_process

from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)

LEAST_SPLIT_ALIKE = 95  # percent
MAX_CACHED_WORDS = 1_000_000  # a crawled corpus has tens of millions of distinct words
UNKNOWN = "<unk>"  # fairseq's symbol


def marks_of(symbols: Iterable[str]) -> str:
    """Return how the symbols of a dictionary mark subwords, as a value of fairseq's --remove-bpe, or "none"."""
    for symbol in symbols:
        if symbol.startswith("\u2581"):
            return "sentencepiece"
        if symbol.endswith("@@"):
            return "subword_nmt"
    return "none"


def join_subwords(subwords: str, marks: str) -> str:
    """Join subwords into text, as fairseq-generate does with --remove-bpe `marks`."""
    return post_process(subwords, marks)


def without_unknown(subwords: str) -> tuple[str, int]:
    """Return subwords without the unknown symbols, and the number of those."""
    symbols = subwords.split()
    known = [symbol for symbol in symbols if symbol != UNKNOWN]
    return " ".join(known), len(symbols) - len(known)


class SubwordNMTMissingError(UserError):
    """subword-nmt is not installed."""


@dataclass(frozen=True)
class SubwordModel:
    """A sentencepiece model or BPE codes of subword-nmt."""

    path: Path
    kind: str  # as in fairseq's --remove-bpe: sentencepiece or subword_nmt

    @classmethod
    def read(cls, path: Path) -> "SubwordModel":
        """Detect the kind of the file at `path`; UserError if it is neither a sentencepiece model nor BPE codes."""
        if not path.is_file():
            raise UserError(f"subword model {path} does not exist; give the file that split the data")
        try:
            sentencepiece.SentencePieceProcessor(model_file=str(path))
            return cls(path, "sentencepiece")
        except RuntimeError:
            pass
        if not _are_bpe_codes(path):
            raise UserError(
                f"{path} is neither a sentencepiece model nor subword-nmt BPE codes; give the file that split the data"
            )
        return cls(path, "subword_nmt")

    @property
    def file_name(self) -> str:
        """Its name in the export."""
        return "subwords.model" if self.kind == "sentencepiece" else "subwords.codes"

    def text(self, subwords: str) -> str:
        """Join subwords into text, as fairseq-generate's --remove-bpe does."""
        return join_subwords(subwords, self.kind)

    def words(self, subwords: list[str]) -> list[list[str]]:
        """Return the subwords of each word."""
        words: list[list[str]] = []
        starts = True
        for subword in subwords:
            if starts or subword.startswith("\u2581"):
                words.append([])
            words[-1].append(subword)
            starts = self.kind == "subword_nmt" and not subword.endswith("@@")
        return words

    def check(self, sources: list[str], data: str) -> None:
        """Raise UserError if splitting the text of `sources`, given in subwords, does not yield the same subwords."""
        try:
            split = self.splitter()
        except SubwordNMTMissingError:
            logger.warning(f"subword-nmt is not installed, so {self.path} is not checked against the text of {data}")
            return
        known = [source for source in sources if UNKNOWN not in source.split(" ")]
        alike = sum(split(self.text(source)) == source for source in known)
        if 100 * alike < LEAST_SPLIT_ALIKE * len(known):
            raise UserError(
                f"{self.path} splits only {alike:,} of {len(known):,} sentences as in {data}; "
                "give the model that split this data"
            )

    def splitter(self) -> Callable[[str], str]:
        """Return a function that splits text into subwords joined by spaces; UserError if subword-nmt is missing."""
        if self.kind == "sentencepiece":
            processor = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
            return lambda text: " ".join(processor.encode(text, out_type=str))
        bpe = load_bpe(self.path)

        def split(text: str) -> str:
            if len(bpe.cache) > MAX_CACHED_WORDS:
                bpe.cache.clear()
            return bpe.process_line(" ".join(text.split()))  # which splits only at single spaces

        return split


def load_bpe(codes: Path) -> Any:
    """Return subword-nmt's object for these codes; UserError if subword-nmt is missing."""
    try:
        from subword_nmt.apply_bpe import BPE
    except ImportError:
        raise SubwordNMTMissingError(
            f"subword-nmt is needed to split text by {codes}; pip install 'nmt-kd[recipes]'"
        ) from None
    with codes.open(encoding="utf-8") as lines:
        return BPE(lines)


def _are_bpe_codes(path: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")  # merges may have other line separators
    except UnicodeDecodeError:
        return False
    merges = [line for line in lines if not line.startswith("#version")]
    return bool(merges) and all(len(line.split(" ")) == 2 for line in merges)
