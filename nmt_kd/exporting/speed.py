"""Measure how fast systems translate."""

import logging
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nmt_kd.exporting.sample import Sample
from nmt_kd.exporting.systems import MeasuredSystem, token_count

logger = logging.getLogger(__name__)

SINGLE_SENTENCES = 20  # translated one at a time to measure latency
WARM_UP_SENTENCES = 4  # the first sentences are slower, because they allocate memory that later ones reuse


@dataclass(frozen=True)
class Performance:
    """A system's translations of the sample, in subwords and in the sample's order, and the seconds they took."""

    system: MeasuredSystem
    translations: list[str]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Subwords of the translations, including the end of each sentence."""
        return sum(map(token_count, self.translations)) / self.seconds

    @property
    def sentences_per_second(self) -> float:
        return len(self.translations) / self.seconds


def measure(systems: list[MeasuredSystem], sample: Sample, rounds: int) -> list[Performance]:
    """Return the performance of each system; they take turns translating, and the median over `rounds` is reported."""
    for system in systems:
        system.translate(sample.numbers[-WARM_UP_SENTENCES:])
    seconds: dict[str, list[float]] = {system.name: [] for system in systems}
    translations = {}
    for _ in range(rounds):
        for system in systems:
            logger.info(f"translating {len(sample.numbers):,} sentences: {system.name}")
            started = time.perf_counter()
            translations[system.name] = system.translate(sample.numbers)
            seconds[system.name].append(time.perf_counter() - started)
    return [Performance(item, translations[item.name], statistics.median(seconds[item.name])) for item in systems]


def latency(system: MeasuredSystem, sample: Sample) -> float:
    """Return the median time, in seconds, that a sentence takes alone, over sentences of all lengths."""
    numbers = sample.numbers[:: -(-len(sample.numbers) // SINGLE_SENTENCES)]
    seconds = []
    for index in range(len(numbers)):
        started = time.perf_counter()
        system.translate(numbers[index : index + 1])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use this many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
