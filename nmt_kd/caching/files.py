"""The files of a store of predictions, which `nmt-kd cache` writes.

    OUT/manifest.json                  the teacher, the dictionaries, the number of words per position
    OUT/train/manifest.json            the number of sentences, their checksum, the size of a block
    OUT/train/0000000.safetensors ...  blocks of consecutive sentences
    OUT/valid/...

A block is a safetensors file, mapped into memory that all processes of a machine share. Its tensors:

    first        int64 [1]             the number of the first sentence
    offsets      int64 [sentences + 1] where the positions of each sentence begin, and where the last one's end
    checksums    uint32 [sentences]    of the tokens of both sides, see `sentence_checksums`
    words        uint16 [positions, k] the most probable words, most probable first; uint32 if the vocabulary has more
                                       than 65,536 symbols
    log_q        float16 [positions, k] their log-probabilities
    log_rest     float32 [positions]   the log of the mass of all other words, -inf if there are none

A position is a target token, the end of the sentence included; a sentence that is too long for the teacher has none.
Where the teacher has no prediction, `log_q` and `log_rest` are NaN.
The metadata has the CRC-32 of all bytes after the file's header, as `crc32`. With k words a position takes 4 + 4 k
bytes, or 4 + 6 k with uint32 words: 36 for k = 8. A sentence takes 12 bytes more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy

from nmt_kd.caching.sentences import offsets_of
from nmt_kd.errors import UserError
from nmt_kd.losses.divergence import LOG_OF_NOTHING
from nmt_kd.storage.blocks import SentenceFolder
from nmt_kd.storage.manifest import Manifest
from nmt_kd.storage.tensors import Kinds, are_of, encoded, mapped
from nmt_kd.version import __version__

FORMAT = 2

# A process can keep a few hundred files open. A worker that is killed loses one block.
MOST_BLOCKS = 200
SMALLEST_BLOCK = 1000  # sentences


def usual_block_sentences(sentences: int) -> int:
    """Return the default number of sentences in a block, for a data set of so many `sentences`."""
    return max(SMALLEST_BLOCK, -(-sentences // MOST_BLOCKS))


def word_dtype(vocabulary_size: int) -> numpy.dtype:
    """Return the smallest type that holds the index of every symbol."""
    return numpy.dtype("<u2" if vocabulary_size <= 2**16 else "<u4")


@dataclass(frozen=True)
class Positions:
    """The predictions at consecutive target positions, as they are stored, in memory or in a mapped file."""

    words: numpy.ndarray  # [positions, k], uint16 or uint32, most probable first
    log_q: numpy.ndarray  # [positions, k], float16
    log_rest: numpy.ndarray  # [positions], float32

    @classmethod
    def of(
        cls, words: numpy.ndarray, log_q: numpy.ndarray, log_rest: numpy.ndarray, vocabulary_size: int
    ) -> "Positions":
        """Convert predictions to the types in which they are stored; log 0 becomes a finite number."""
        log_q = numpy.maximum(log_q, LOG_OF_NOTHING).astype("<f2")
        return cls(words.astype(word_dtype(vocabulary_size)), log_q, log_rest.astype("<f4"))

    @classmethod
    def none(cls, top_k: int, vocabulary_size: int) -> "Positions":
        """Return the predictions of a sentence that has none."""
        return cls.of(numpy.empty((0, top_k)), numpy.empty((0, top_k)), numpy.empty(0), vocabulary_size)

    @classmethod
    def joined(cls, parts: Sequence["Positions"]) -> "Positions":
        """Return the positions of all `parts`, of which there is at least one."""
        return cls(*(numpy.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def __len__(self) -> int:
        return len(self.words)

    def only(self, known: numpy.ndarray) -> "Positions":
        """Return the same positions without the predictions of those that are not `known`, bool [positions]."""
        log_q = numpy.where(known[:, None], self.log_q, numpy.float16(numpy.nan))
        return Positions(self.words, log_q, numpy.where(known, self.log_rest, numpy.float32(numpy.nan)))

    def rows(self, start: int, end: int) -> "Positions":
        """Return the positions from `start` to before `end`."""
        return Positions(self.words[start:end], self.log_q[start:end], self.log_rest[start:end])


@dataclass(frozen=True)
class Block:
    """The predictions for consecutive sentences."""

    first: int  # the number of the first sentence
    offsets: numpy.ndarray  # [sentences + 1], int64: where each sentence's positions start, and the end
    checksums: numpy.ndarray  # [sentences], uint32
    positions: Positions

    @classmethod
    def of(cls, first: int, checksums: list[int], sentences: list[Positions]) -> "Block":
        """Make a block of at least one sentence, from each sentence's checksum and positions."""
        return cls(first, offsets_of(sentences), numpy.array(checksums, "<u4"), Positions.joined(sentences))

    def sentence(self, number: int) -> Positions:
        """Return the positions of a sentence; none if it is too long for the teacher."""
        index = number - self.first
        return self.positions.rows(int(self.offsets[index]), int(self.offsets[index + 1]))

    def length(self, number: int) -> int:
        """Return the number of positions of a sentence; 0 if it is too long for the teacher."""
        index = number - self.first
        return int(self.offsets[index + 1] - self.offsets[index])

    def content(self) -> bytes:
        """Return the content of the block's file."""
        positions = {field.name: getattr(self.positions, field.name) for field in fields(Positions)}
        tensors = {"first": numpy.array([self.first], "<i8"), "offsets": self.offsets, "checksums": self.checksums}
        return encoded(tensors | positions)


def map_block(path: Path, first: int, sentences: int, top_k: int, words: numpy.dtype, check: bool) -> Block | None:
    """Map a block's file into memory; None if it is damaged, or the block of other sentences.

    `check` is as in `mapped`. Raises FileNotFoundError.
    """
    found = mapped(path, check)
    if found is None:
        return None
    positions = len(found.get("log_rest", ()))
    expected: Kinds = {
        "first": ("<i8", (1,)),
        "offsets": ("<i8", (sentences + 1,)),
        "checksums": ("<u4", (sentences,)),
        "words": (words, (positions, top_k)),
        "log_q": ("<f2", (positions, top_k)),
        "log_rest": ("<f4", (positions,)),
    }
    if not are_of(found, expected) or found.pop("first").item() != first:
        return None
    return Block(first, found.pop("offsets"), found.pop("checksums"), Positions(**found))


def cache_manifest(folder: Path) -> Manifest:
    """Return the manifest of a cache or of one of its subsets; another version of this package may resume it."""
    command = "nmt-kd cache DATA --teacher-path TEACHER --top-k K FOLDER"
    return Manifest(folder, "predictions of a teacher", command, noted={"nmt_kd": __version__})


@dataclass(frozen=True)
class SubsetFolder(SentenceFolder[Block]):
    """The blocks of one subset."""

    suffix = ".safetensors"

    folder: Path
    sentences: int
    block_sentences: int
    top_k: int
    vocabulary_size: int

    def encode(self, content: Block) -> list[bytes]:
        """Return the parts of a block's file."""
        return [content.content()]

    def is_whole(self, block: int) -> bool:
        """Return whether a block is undamaged; raises FileNotFoundError if it is absent."""
        return self._map(block, check=True) is not None

    def open(self, block: int, check: bool) -> Block:
        """Map a block; raises UserError if it is missing, or damaged (see `map_block` for `check`)."""
        try:
            found = self._map(block, check)
        except FileNotFoundError:
            raise UserError(f"{self.path(block)} is missing; rerun nmt-kd cache to compute it") from None
        if found is None:
            raise UserError(f"{self.path(block)} is damaged; rerun nmt-kd cache to compute it again")
        return found

    def _map(self, block: int, check: bool) -> Block | None:
        numbers = self.numbers(block)
        words = word_dtype(self.vocabulary_size)
        return map_block(self.path(block), numbers.start, len(numbers), self.top_k, words, check)
