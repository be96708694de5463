"""Folders of values at every target position of a data set: a datastore's keys and tokens, or neighbours.

    OUT/manifest.json                  what the values were made with
    OUT/0000000.safetensors ...        blocks of consecutive sentences

A block is a safetensors file, mapped into memory (see `nmt_kd.storage.tensors`). Its tensors:

    first        int64 [1]             the number of the first sentence
    offsets      int64 [sentences + 1] where the positions of each sentence begin, and where the last one's end

and the values, whose first dimension is the number of positions. A position is a target token, the end of the sentence
included; a sentence that is too long for the model has none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy

from nmt_kd.caching.sentences import offsets_of
from nmt_kd.errors import UserError
from nmt_kd.storage.blocks import SentenceFolder
from nmt_kd.storage.tensors import are_of, encoded, mapped


@dataclass(frozen=True)
class Values:
    """Named values at consecutive target positions, each [positions, ...], in memory or in a mapped file."""

    arrays: Mapping[str, numpy.ndarray]

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def rows(self, start: int, end: int) -> "Values":
        """Return the values from `start` to before `end`."""
        return Values({name: array[start:end] for name, array in self.arrays.items()})

    @classmethod
    def joined(cls, parts: Sequence["Values"]) -> "Values":
        """Return the values of all `parts`, of which there is at least one."""
        return cls({name: numpy.concatenate([part[name] for part in parts]) for name in parts[0].arrays})


@dataclass(frozen=True)
class ValueBlock:
    """The values at the positions of consecutive sentences."""

    first: int  # the number of the first sentence
    offsets: numpy.ndarray
    values: Values

    @classmethod
    def of(cls, first: int, sentences: list[Values]) -> "ValueBlock":
        """Make a block of at least one sentence."""
        return cls(first, offsets_of(sentences), Values.joined(sentences))


@dataclass(frozen=True)
class ValueFolder(SentenceFolder[ValueBlock]):
    """The blocks of a data set's values."""

    suffix = ".safetensors"

    folder: Path
    sentences: int
    block_sentences: int
    kinds: Mapping[str, tuple[str, tuple[int, ...]]]  # the type of each array, and its shape after the first dimension
    command: str  # that writes the folder

    def none(self) -> Values:
        """Return the values of a sentence without positions."""
        return Values({name: numpy.empty((0, *shape), kind) for name, (kind, shape) in self.kinds.items()})

    def encode(self, content: ValueBlock) -> list[bytes]:
        """Return the parts of a block's file."""
        tensors = {"first": numpy.array([content.first], "<i8"), "offsets": content.offsets}
        return [encoded(tensors | dict(content.values.arrays))]

    def is_whole(self, block: int) -> bool:
        """Return whether a block is undamaged; raises FileNotFoundError if it is absent."""
        return self._map(block) is not None

    def open_all(self) -> "PositionValues":
        """Map all blocks and check them; raises UserError if one is missing or damaged."""
        self.check_present(self.command)
        found = []
        for block in range(len(self.sizes)):
            content = self._map(block)
            if content is None:
                raise UserError(f"{self.path(block)} is damaged; rerun {self.command} to compute it again")
            found.append(content)
        return PositionValues(self.block_sentences, found)

    def _map(self, block: int) -> ValueBlock | None:
        found = mapped(self.path(block), check=True)
        if found is None:
            return None
        numbers, offsets = self.numbers(block), found.get("offsets", numpy.zeros(1))
        kinds = {name: (kind, (int(offsets[-1]), *shape)) for name, (kind, shape) in self.kinds.items()}
        if not are_of(found, {"first": ("<i8", (1,)), "offsets": ("<i8", (len(numbers) + 1,)), **kinds}):
            return None
        if found.pop("first").item() != numbers.start:
            return None
        return ValueBlock(numbers.start, found.pop("offsets"), Values(found))


@dataclass(frozen=True)
class PositionValues:
    """The values at all positions of a data set; the positions are numbered in the order of the sentences."""

    block_sentences: int
    blocks: list[ValueBlock]

    @cached_property
    def starts(self) -> numpy.ndarray:
        """The number of each block's first position, and the number of positions, [blocks + 1]."""
        return numpy.cumsum([0, *(len(block.values) for block in self.blocks)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def sentence(self, number: int) -> range:
        """Return the positions of a sentence; none if it was too long for the model."""
        block = number // self.block_sentences
        start, index = int(self.starts[block]), number - self.blocks[block].first
        offsets = self.blocks[block].offsets
        return range(start + int(offsets[index]), start + int(offsets[index + 1]))

    def of_sentences(self, numbers: Sequence[int]) -> numpy.ndarray:
        """Return the positions of some sentences, one sentence after the other, int64 [positions]."""
        ranges = [self.sentence(number) for number in numbers]
        return numpy.concatenate([numpy.arange(0), *(numpy.arange(part.start, part.stop) for part in ranges)])

    def pieces(self, name: str, size: int) -> Iterator[tuple[int, numpy.ndarray]]:
        """Yield the values of an array in pieces of up to `size` positions, each with its first position."""
        for start, block in zip(self.starts[:-1].tolist(), self.blocks, strict=True):
            for first in range(0, len(block.values), size):
                yield start + first, block.values[name][first : first + size]

    def at(self, name: str, positions: numpy.ndarray) -> numpy.ndarray:
        """Return the values of an array at these positions, [*positions.shape, ...]."""
        flat = positions.reshape(-1)
        example = self.blocks[0].values[name]
        result: numpy.ndarray = numpy.empty((len(flat), *example.shape[1:]), example.dtype)
        order = numpy.argsort(flat, kind="stable")
        ends = numpy.searchsorted(flat[order], self.starts)
        for number, block in enumerate(self.blocks):
            chosen = order[ends[number] : ends[number + 1]]
            result[chosen] = block.values[name][flat[chosen] - self.starts[number]]
        return result.reshape(*positions.shape, *example.shape[1:])
