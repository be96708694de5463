"""The files of a cache of predictions.

    OUT/manifest.json                  the teacher, the dictionaries, the number of words per position
    OUT/train/manifest.json            the number of sentences, their checksum, the size of a block
    OUT/train/0000000.top ...          blocks of consecutive sentences
    OUT/valid/...

A block is read through the page cache, which all processes of a machine share. Its parts:

    header                             see HEADER; its CRC-32 covers all bytes after it
    offsets      int64 [sentences + 1] where the positions of each sentence begin, and where the last one's end
    checksums    uint32 [sentences]    of the tokens of both sides, see `sentence_checksums`
    positions    see `position_dtype`  one for each target token, the end of the sentence included; none for a
                                       sentence that is too long for the teacher

All numbers are little-endian. With k words a position takes 4 + 4 k bytes, or 4 + 6 k if the vocabulary has more than
65,536 symbols: for k = 8, 4.5 bytes per entry. A sentence takes 12 bytes more.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy

from nmt_kd.errors import UserError
from nmt_kd.storage.blocks import BlockFolder
from nmt_kd.storage.manifest import Manifest
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
CRC_BEGINS = 12  # after the magic number and the CRC itself
READ_AT_ONCE = 2**20  # bytes

# A process can keep a few hundred files open. A worker that is killed loses one block.
MOST_BLOCKS = 200
SMALLEST_BLOCK = 1000  # sentences


def usual_block_sentences(sentences: int) -> int:
    """Return the default number of sentences in a block, for a data set of so many `sentences`."""
    return max(SMALLEST_BLOCK, -(-sentences // MOST_BLOCKS))


def word_dtype(vocabulary_size: int) -> numpy.dtype:
    """Return the smallest type that holds the index of every symbol."""
    return numpy.dtype("<u2" if vocabulary_size <= 2**16 else "<u4")


def position_dtype(top_k: int, vocabulary_size: int) -> numpy.dtype:
    """Return the type of a target position: its top-k words, most probable first, and the log mass of the rest."""
    words = word_dtype(vocabulary_size)
    return numpy.dtype([("rest", "<f4"), ("words", words, (top_k,)), ("log_probabilities", "<f2", (top_k,))])


@dataclass(frozen=True)
class Block:
    """The predictions for consecutive sentences, in memory or in a mapped file."""

    first: int  # the number of the first sentence
    offsets: numpy.ndarray
    checksums: numpy.ndarray
    positions: numpy.ndarray  # of `position_dtype`

    @classmethod
    def of(cls, first: int, checksums: list[int], sentences: list[numpy.ndarray]) -> "Block":
        """Make a block of at least one sentence, from each sentence's checksum and positions."""
        offsets = numpy.zeros(len(sentences) + 1, "<i8")
        numpy.cumsum([len(positions) for positions in sentences], out=offsets[1:])
        return cls(first, offsets, numpy.array(checksums, "<u4"), numpy.concatenate(sentences))

    def length(self, number: int) -> int:
        """Return the number of positions of a sentence; 0 if it is too long for the teacher."""
        index = number - self.first
        return int(self.offsets[index + 1] - self.offsets[index])

    def parts(self) -> list[bytes]:
        """Return the content of the block's file."""
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
    """Map a block's file into memory; None if it is damaged, or the block of other sentences.

    With `check` the file is read once, a piece at a time, to compare its CRC-32. Raises FileNotFoundError.
    """
    size = path.stat().st_size
    if size < HEADER.itemsize:
        return None
    raw = numpy.asarray(numpy.memmap(path, numpy.uint8, "r"))  # slicing a memmap itself is slow
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


def cache_manifest(folder: Path) -> Manifest:
    """Return the manifest of a cache or of one of its subsets; another version of this package may resume it."""
    command = "nmt-kd cache DATA --teacher-path TEACHER --top-k K FOLDER"
    return Manifest(folder, "predictions of a teacher", command, noted={"nmt_kd": __version__})


@dataclass(frozen=True)
class SubsetFolder(BlockFolder[Block]):
    """The blocks of one subset."""

    suffix = ".top"

    folder: Path
    sentences: int
    block_sentences: int
    dtype: numpy.dtype  # of a position

    @property
    def sizes(self) -> list[int]:
        """The number of sentences in each block."""
        return [len(self.numbers(block)) for block in range(-(-self.sentences // self.block_sentences))]

    def numbers(self, block: int) -> range:
        """Return the numbers of a block's sentences."""
        first = block * self.block_sentences
        return range(first, min(first + self.block_sentences, self.sentences))

    def encode(self, content: Block) -> list[bytes]:
        """Return the parts of a block's file."""
        return content.parts()

    def is_whole(self, block: int) -> bool:
        """Return whether a block is undamaged; raises FileNotFoundError if it is absent."""
        return self._map(block, check=True) is not None

    def open(self, block: int, check: bool) -> Block:
        """Map a block; raises UserError if it is missing, or damaged (see `map_block` for `check`)."""
        try:
            found = self._map(block, check)
        except FileNotFoundError:
            raise UserError(f"{self.path(block)} is missing; rerun the same nmt-kd cache to compute it") from None
        if found is None:
            raise UserError(f"{self.path(block)} is damaged; rerun the same nmt-kd cache to compute it again")
        return found

    def _map(self, block: int, check: bool) -> Block | None:
        numbers = self.numbers(block)
        return map_block(self.path(block), numbers.start, len(numbers), self.dtype, check)
