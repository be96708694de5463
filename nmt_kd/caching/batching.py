"""Run a model over consecutive sentences in batches of similar length, and group its results by sentence."""

import logging
from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import numpy
from fairseq.data import LanguagePairDataset

from nmt_kd.caching.sentences import Sentences
from nmt_kd.data import batches_by_tokens
from nmt_kd.progress import Progress

logger = logging.getLogger(__name__)


class Rows(Protocol):
    """Values at consecutive target positions."""

    def rows(self, start: int, end: int) -> Self:
        """Return the values from `start` to before `end`."""


Values = TypeVar("Values", bound=Rows)


def are_readable(dataset: LanguagePairDataset, numbers: range, longest: tuple[int, int]) -> numpy.ndarray:
    """Return which sentences fit into so many source and target positions, bool [sentences]."""
    own = slice(numbers.start, numbers.stop)
    return (dataset.src_sizes[own] <= longest[0]) & (dataset.tgt_sizes[own] <= longest[1])


def warn_of_long_sentences(dataset: LanguagePairDataset, longest: tuple[int, int], name: str, consequence: str) -> None:
    """Log how many sentences of a data set do not fit into so many source and target positions, if any."""
    if too_long := int((~are_readable(dataset, range(len(dataset)), longest)).sum()):
        positions = " and ".join(map(str, longest))
        logger.warning(
            f"{name}: {too_long} sentences are longer than the teacher's {positions} positions and {consequence}"
        )


def by_sentence(
    dataset: LanguagePairDataset,
    numbers: range,
    longest: tuple[int, int],
    paddings: tuple[int, int],
    max_tokens: int,
    compute: Callable[[dict], Values],
    none: Values,
    progress: Progress,
) -> tuple[list[int], list[Values]]:
    """Return the checksum of each of these sentences, and the values at its target positions.

    `compute` returns the values for all tokens of fairseq's sample, sentence by sentence without padding. Sentences
    that do not fit into the `longest` source and target get `none`. `paddings` are the padding symbols of both sides.
    """
    checksums, values = [0] * len(numbers), [none] * len(numbers)
    own = slice(numbers.start, numbers.stop)
    sizes = numpy.maximum(dataset.src_sizes[own], dataset.tgt_sizes[own])
    readable = are_readable(dataset, numbers, longest)
    longest_first = numpy.argsort(-sizes.astype(numpy.int64), kind="stable")
    batches = list(batches_by_tokens(sizes, longest_first[readable[longest_first]], max_tokens, None))
    batches += [numpy.array([index]) for index in numpy.flatnonzero(~readable)]
    for batch in batches:
        sample = dataset.collater([dataset[numbers[index]] for index in batch])
        found = Sentences.of(sample, paddings)
        for number, checksum in zip(found.numbers, found.checksums, strict=True):
            checksums[number - numbers.start] = checksum
        if readable[batch[0]]:
            computed, end = compute(sample), 0
            for number, length in zip(found.numbers, found.lengths, strict=True):
                start, end = end, end + length
                values[number - numbers.start] = computed.rows(start, end)
        progress.add(len(batch))
    return checksums, values
