"""Decode a block of sentences with the teacher."""

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy
from fairseq import utils
from fairseq.data import FairseqDataset
from fairseq.tasks.translation import TranslationTask

from nmt_kd.data import source_checksum
from nmt_kd.decoding.first_choices import first_choices
from nmt_kd.decoding.repetition import has_loop
from nmt_kd.decoding.shards import Decoded, Hypothesis
from nmt_kd.decoding.too_long import SourceLimit

logger = logging.getLogger(__name__)


class Backend(Protocol):
    """Runs the beam search."""

    counts: dict[str, int]  # logged as warnings at the end, if not 0

    @property
    def name(self) -> str:
        """Its name in the manifest."""

    @property
    def precision(self) -> str:
        """The precision of its arithmetic, for the manifest."""

    def decode(self, dataset: FairseqDataset, numbers: numpy.ndarray) -> list[list[Hypothesis]]:
        """Return the n-best lists of the sentences with these numbers, which are sorted by length, longest first."""


@dataclass
class Decoder:
    """A teacher with its beam search, and what is recorded with each translation."""

    task: TranslationTask
    models: list
    backend: Backend
    limit: SourceLimit
    seed: int | None  # of sampling; None for a search
    first_choices: bool  # whether to record which tokens are the teacher's first choice
    max_tokens: int  # per batch, for recording first choices
    loops: int = 0  # number of best hypotheses with a repetition loop so far

    def decode(self, dataset: FairseqDataset, numbers: numpy.ndarray, block: int) -> list[Decoded]:
        """Return the sentences `numbers` of a block with their hypotheses; a source that is skipped has none."""
        if self.seed is not None:  # a block's samples must not depend on the blocks before it
            utils.set_torch_seed(self.seed + block)
        readable, decodable = self.limit.apply(dataset, numbers)
        lists = dict(zip(decodable.tolist(), self.backend.decode(readable, decodable), strict=True))
        self.loops += sum(has_loop(found[0].text.split(" ")) for found in lists.values() if found)
        notes = {}
        if self.first_choices:
            best = {number: found[0].text for number, found in lists.items()}
            marks = first_choices(self.task, self.models, readable, best, self.max_tokens)
            notes = {number: {"first_choices": text} for number, text in marks.items()}
        return [
            Decoded(number, source_checksum(dataset[number]["source"]), lists.get(number, []), notes.get(number, {}))
            for number in numbers.tolist()
        ]

    def log_counts(self) -> None:
        """Log how often sources were too long, hypotheses looped, or the backend had to decode again."""
        counts = {"sources that are too long": self.limit.exceeded, "repetition loops": self.loops}
        for what, count in {**counts, **self.backend.counts}.items():
            if count:
                logger.warning(f"{what}: {count}")
