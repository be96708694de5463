"""Handle sources that are longer than the teacher accepts."""

import logging
from dataclasses import dataclass

import numpy
import torch
from fairseq.data import FairseqDataset

from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)

NUMBERS_SHOWN = 5


@dataclass
class SourceLimit:
    """The teacher's longest source in tokens, and what to do with longer ones: "error", "skip" or "truncate"."""

    longest: int
    action: str
    exceeded: int = 0  # sentences so far

    def apply(self, dataset: FairseqDataset, numbers: numpy.ndarray) -> tuple[FairseqDataset, numpy.ndarray]:
        """Return the data set to decode from, and which of the sentences `numbers` to decode.

        Raises UserError if a source is too long and the action is "error".
        """
        too_long = dataset.src_sizes[numbers] > self.longest
        if not too_long.any():
            return dataset, numbers
        self._report(numbers[too_long])
        if self.action == "truncate":
            return _Truncated(dataset, self.longest), numbers
        return dataset, numbers[~too_long]

    def _report(self, numbers: numpy.ndarray) -> None:
        shown = ", ".join(map(str, numbers[:NUMBERS_SHOWN])) + (", ..." if len(numbers) > NUMBERS_SHOWN else "")
        what = (
            f"{len(numbers)} source sentences (numbers {shown}) are longer than the teacher's {self.longest} positions"
        )
        if self.action == "error":
            raise UserError(f"{what}; choose what to do with --distill-too-long skip or truncate")
        self.exceeded += len(numbers)
        logger.warning(what)


class _Truncated:
    """A data set whose sources are truncated but keep their end-of-sentence symbols."""

    def __init__(self, dataset: FairseqDataset, length: int):
        self.dataset, self.length = dataset, length
        self.collater = dataset.collater

    @property
    def src_sizes(self) -> numpy.ndarray:
        """The lengths after truncation."""
        return numpy.minimum(self.dataset.src_sizes, self.length)

    def __getitem__(self, number):
        item = self.dataset[number]
        source = item["source"]
        if len(source) <= self.length:
            return item
        return {**item, "source": torch.cat([source[: self.length - 1], source[-1:]])}
