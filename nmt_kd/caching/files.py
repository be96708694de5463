"""The files of a cache of predictions, safe to lose power over.

    OUT/manifest.json                  the teacher, the dictionaries, how many words a position
    OUT/train/manifest.json            how many sentences, their checksum, how they are cut into blocks
    OUT/train/0000000.top ...          blocks of consecutive sentences
    OUT/valid/...

A block appears under its name only when it is complete and on disk. What it holds depends on the data, the teacher and
the settings alone, never on the workers. It is read through the page cache, which all processes of a machine share:

    header                             see HEADER; its CRC-32 is that of all bytes behind it
    offsets      int64 [sentences + 1] where the positions of each sentence begin, and where the last one's end
    checksums    uint32 [sentences]    of the tokens of both sides, see `sentence_checksums`
    positions    see `position_dtype`  one for each target token, the end of the sentence included; none for a
                                       sentence that is longer than the positions of the teacher

All numbers are little-endian. With k words a position takes 4 + 4 k bytes, or 4 + 6 k where the vocabulary has more
than 65,536 symbols: 4.5 bytes an entry for k = 8. A sentence takes 12 bytes more.
"""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy
from torch import Tensor

from nmt_kd.errors import UserError
from nmt_kd.storage.manifest import Manifest, write_durably
from nmt_kd.version import __version__

FORMAT = 1
MAGIC = b"nmtkdtop"
HEADER = numpy.dtype(
    [
        ("magic", "S8"),
        ("crc", "<u4"),
        ("top_k", "<u4"),
        ("word_bytes", "<i8"),
        ("first", "<i8"),  # the number of the first sentence
        ("sentences", "<i8"),
        ("positions", "<i8"),
    ]
)
CRC_BEGINS = 12  # behind the magic number and the CRC itself
READ_AT_ONCE = 2**20  # bytes

# A few hundred files at most, so that a process can keep them all open. A worker that is killed loses one block.
MOST_BLOCKS = 200
SMALLEST_BLOCK = 1000  # sentences


def usual_block_sentences(sentences: int) -> int:
    """How many sentences a block of a data set with so many has."""
    return max(SMALLEST_BLOCK, -(-sentences // MOST_BLOCKS))


def word_dtype(vocabulary_size: int) -> numpy.dtype:
    """The smallest type that holds the number of every symbol."""
    return numpy.dtype("<u2" if vocabulary_size <= 2**16 else "<u4")


def position_dtype(top_k: int, vocabulary_size: int) -> numpy.dtype:
    """What is kept of a target position: its likeliest words first, and the log of the mass of all others."""
    words = word_dtype(vocabulary_size)
    return numpy.dtype([("rest", "<f4"), ("words", words, (top_k,)), ("log_probabilities", "<f2", (top_k,))])


def sentence_checksums(sources: numpy.ndarray, targets: numpy.ndarray, paddings: tuple[int, int]) -> list[int]:
    """A CRC-32 of each sentence's tokens, those of the source [batch, length] and then those of the target.

    `paddings` are the two sides' padding symbols, which do not count, on whatever side they are.
    """
    checksums = [0] * len(sources)
    for tokens, padding in zip((sources, targets), paddings, strict=True):
        kept = tokens != padding
        ends = kept.sum(1).cumsum().tolist()
        flat = tokens[kept].astype("<i4")
        start = 0
        for row, end in enumerate(ends):
            checksums[row] = zlib.crc32(flat[start:end], checksums[row])
            start = end
    return checksums


@dataclass(frozen=True)
class Sentences:
    """The sentences of one of fairseq's batches: which they are, and where their target tokens are."""

    numbers: list[int]
    checksums: list[int]
    lengths: list[int]  # target tokens without padding
    kept: numpy.ndarray  # bool [batch, length]: the positions of the target that are no padding

    @classmethod
    def of(cls, sample: dict, paddings: tuple[int, int]) -> "Sentences":
        """Those of `sample`, with the padding symbols of both sides."""
        sources, targets = _array(sample["net_input"]["src_tokens"]), _array(sample["target"])
        kept = targets != paddings[1]
        checksums = sentence_checksums(sources, targets, paddings)
        return cls(_array(sample["id"]).tolist(), checksums, kept.sum(1).tolist(), kept)


def _array(tensor: Tensor) -> numpy.ndarray:
    return tensor.cpu().numpy()


# ---------------------------------------------------------------------------------------------------------------------
# Blocks
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """The predictions for consecutive sentences, in memory or in a mapped file."""

    first: int  # the number of the first sentence
    offsets: numpy.ndarray
    checksums: numpy.ndarray
    positions: numpy.ndarray  # of `position_dtype`

    @classmethod
    def of(cls, first: int, checksums: list[int], sentences: list[numpy.ndarray]) -> "Block":
        """A block of at least one sentence, from the checksum and the positions of each."""
        offsets = numpy.zeros(len(sentences) + 1, "<i8")
        numpy.cumsum([len(positions) for positions in sentences], out=offsets[1:])
        return cls(first, offsets, numpy.array(checksums, "<u4"), numpy.concatenate(sentences))

    def length(self, number: int) -> int:
        """How many positions the sentence `number` has; none where the teacher could not read it."""
        index = number - self.first
        return int(self.offsets[index + 1] - self.offsets[index])

    def parts(self) -> list[bytes]:
        """The content of the block's file."""
        dtype = self.positions.dtype
        header = numpy.zeros(1, HEADER)
        header["magic"], header["first"] = MAGIC, self.first
        header["top_k"], header["word_bytes"] = dtype["words"].shape[0], dtype["words"].base.itemsize
        header["sentences"], header["positions"] = len(self.checksums), len(self.positions)
        arrays = [array.tobytes() for array in (self.offsets, self.checksums, self.positions)]
        crc = zlib.crc32(header.tobytes()[CRC_BEGINS:])
        for part in arrays:
            crc = zlib.crc32(part, crc)
        header["crc"] = crc
        return [header.tobytes(), *arrays]


def map_block(path: Path, first: int, sentences: int, dtype: numpy.dtype, check: bool) -> Block | None:
    """A block's file, mapped into memory; None where it is not the whole block of these sentences.

    With `check` the file is read once, a piece at a time, to compare its CRC-32. Raises FileNotFoundError.
    """
    size = path.stat().st_size
    if size < HEADER.itemsize:
        return None
    raw = numpy.asarray(numpy.memmap(path, numpy.uint8, "r"))  # the subclass of arrays is slow to slice
    header = raw[: HEADER.itemsize].view(HEADER)[0]
    found = tuple(header[name].item() for name in ("magic", "top_k", "word_bytes", "first", "sentences"))
    if found != (MAGIC, dtype["words"].shape[0], dtype["words"].base.itemsize, first, sentences):
        return None
    arrays, start = [], HEADER.itemsize
    positions = header["positions"].item()
    for kind, length in (("<i8", sentences + 1), ("<u4", sentences), (dtype, positions)):
        end = start + numpy.dtype(kind).itemsize * length
        if length < 0 or end > size:
            return None
        arrays.append(raw[start:end].view(kind))
        start = end
    if start != size or (check and _crc(path) != header["crc"]):
        return None
    return Block(first, *arrays)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        file.seek(CRC_BEGINS)
        while part := file.read(READ_AT_ONCE):
            crc = zlib.crc32(part, crc)
    return crc


# ---------------------------------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------------------------------


def cache_manifest(folder: Path) -> Manifest:
    """The settings of a cache, or of one of its subsets; another version of this package may go on with it."""
    command = "nmt-kd cache DATA --teacher-path TEACHER --top-k K FOLDER"
    return Manifest(folder, "predictions of a teacher", command, noted={"nmt_kd": __version__})


@dataclass(frozen=True)
class SubsetFolder:
    """The blocks of one subset."""

    folder: Path
    sentences: int
    block_sentences: int
    dtype: numpy.dtype  # of a position

    @property
    def blocks(self) -> int:
        """How many there are once all is done."""
        return -(-self.sentences // self.block_sentences)

    def path(self, block: int) -> Path:
        """Where a block lies once it is complete."""
        return self.folder / f"{block:07}.top"

    def numbers(self, block: int) -> range:
        """The numbers of a block's sentences."""
        first = block * self.block_sentences
        return range(first, min(first + self.block_sentences, self.sentences))

    def of_worker(self, worker: int, workers: int) -> range:
        """The blocks that one of several workers computes."""
        return range(worker, self.blocks, workers)

    def is_complete(self, block: int) -> bool:
        """Whether a block is there and undamaged."""
        try:
            return self._map(block, check=True) is not None
        except FileNotFoundError:
            return False

    def missing(self) -> int:
        """How many blocks are not there; what is in the others is not looked at."""
        return sum(not self.path(block).exists() for block in range(self.blocks))

    def open(self, block: int, check: bool) -> Block:
        """A mapped block; UserError where it is missing or damaged."""
        try:
            found = self._map(block, check)
        except FileNotFoundError:
            raise UserError(
                f"{self.path(block)} is missing; run the same nmt-kd cache again, which computes what is missing"
            ) from None
        if found is None:
            raise UserError(f"{self.path(block)} is damaged; delete it and run the same nmt-kd cache again")
        return found

    def _map(self, block: int, check: bool) -> Block | None:
        numbers = self.numbers(block)
        return map_block(self.path(block), numbers.start, len(numbers), self.dtype, check)

    def write(self, block: int, content: Block) -> None:
        """Put a block on disk, whole or not at all."""
        path = self.path(block)
        partial = path.with_suffix(f".partial.{os.getpid()}")
        try:
            write_durably(partial, content.parts())
            partial.replace(path)
            for left_behind in self.folder.glob(f"{path.stem}.partial.*"):  # by workers that were killed
                left_behind.unlink(missing_ok=True)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and path.exists():  # another run wrote the same, and tidied up
                return
            partial.unlink(missing_ok=True)
            raise UserError(
                f"cannot write {path}: {error.strerror}; nothing that was finished is lost, "
                "make room and run the same command again"
            ) from None
