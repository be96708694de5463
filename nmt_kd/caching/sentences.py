"""The sentences of a batch, with checksums that identify them."""

import zlib
from collections.abc import Sequence, Sized
from dataclasses import dataclass

import numpy


def sentence_checksums(sources: numpy.ndarray, targets: numpy.ndarray, paddings: tuple[int, int]) -> list[int]:
    """Return a CRC-32 of each sentence's tokens, first the source's [batch, length] and then the target's.

    `paddings` are the padding symbols of the two sides, which are left out wherever they stand.
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


def offsets_of(sentences: Sequence[Sized]) -> numpy.ndarray:
    """Return where the positions of each sentence begin, and where the last one's end, int64 [sentences + 1]."""
    offsets = numpy.zeros(len(sentences) + 1, "<i8")
    numpy.cumsum([len(positions) for positions in sentences], out=offsets[1:])
    return offsets


@dataclass(frozen=True)
class Sentences:
    """The sentences of a batch: their numbers in the data set, and the positions of their target tokens."""

    numbers: list[int]
    checksums: list[int]
    lengths: list[int]  # target tokens without padding
    kept: numpy.ndarray  # bool [batch, length]: the positions of the target that are not padding

    @classmethod
    def of(cls, sample: dict, paddings: tuple[int, int]) -> "Sentences":
        """Return the sentences of fairseq's `sample`, given the padding symbols of both sides."""
        sources, targets = (tensor.cpu().numpy() for tensor in (sample["net_input"]["src_tokens"], sample["target"]))
        kept = targets != paddings[1]
        checksums = sentence_checksums(sources, targets, paddings)
        return cls(sample["id"].tolist(), checksums, kept.sum(1).tolist(), kept)
