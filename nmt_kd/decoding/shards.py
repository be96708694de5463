"""Decoded sentences on disk, in blocks of sentences of about the same length.

A block's file has one JSON object per line, one for each sentence in the order of their numbers:

    {"id": 17, "source": "1c291ca3", "hypotheses": [[-0.31, "▁Ein ▁Mann ."], [-0.58, "▁Der ▁Mann ."]]}

"source" is a checksum of the source's tokens, and the best hypothesis comes first. The last line has the number of
sentences and the SHA-256 of all lines before it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy

from nmt_kd.storage.blocks import BlockFolder
from nmt_kd.storage.lines import END, checked_end, end_of, with_end
from nmt_kd.storage.manifest import Manifest


@dataclass(frozen=True)
class Hypothesis:
    """One translation: the decoder's score (higher is better), and its subwords as one string."""

    score: float
    text: str


@dataclass(frozen=True)
class Decoded:
    """One sentence with its n-best list, best first."""

    id: int
    source: str  # checksum of the source's tokens
    hypotheses: list[Hypothesis]
    notes: dict = field(default_factory=dict)  # first choices, or the text that was read

    def as_line(self) -> str:
        """Return the sentence as a line of a block's file."""
        pairs = [[round(hypothesis.score, 5), hypothesis.text] for hypothesis in self.hypotheses]
        record = {"id": self.id, "source": self.source, "hypotheses": pairs, **self.notes}
        return json.dumps(record, ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Decoded":
        """Parse a line that `as_line` has written."""
        record = json.loads(line)
        pairs = [Hypothesis(*pair) for pair in record.pop("hypotheses")]
        return cls(record.pop("id"), record.pop("source"), pairs, record)


@dataclass(frozen=True)
class BlocksByLength:
    """The division of sentences into blocks, sorted by length, with the longest in the first block."""

    sizes: numpy.ndarray  # source tokens of each sentence
    block_sentences: int

    def __len__(self) -> int:
        return -(-len(self.sizes) // self.block_sentences)

    def sentences(self, block: int) -> numpy.ndarray:
        """Return the numbers of a block's sentences, the longest first."""
        return self._longest_first[block * self.block_sentences : (block + 1) * self.block_sentences]

    @cached_property
    def _longest_first(self) -> numpy.ndarray:
        return numpy.argsort(-self.sizes.astype(numpy.int64), kind="stable")


class ShardFolder(BlockFolder[list[Decoded]]):
    """The blocks of one decoding (--distill-dir), with the settings they were made with."""

    suffix = ".jsonl"

    def __init__(
        self,
        distill_dir: Path,
        command: str = "fairseq-generate --task seq_kd --distill-dir",
        flag: str = "--distill-dir",
        noted: dict | None = None,
    ):
        """`command` fills the folder, which its `flag` names; `noted` is stored with the settings, not compared."""
        self.distill_dir = Path(distill_dir)
        self.folder = self.distill_dir / "shards"
        self.manifest = Manifest(self.distill_dir, "decoded sentences", command, flag, noted or {})

    def claim(self, settings: dict) -> None:
        """Store the settings, or raise UserError if the folder was made with others."""
        self.manifest.claim(settings)
        self.folder.mkdir(exist_ok=True)

    def settings(self) -> dict:
        """Return the settings; raises UserError if the folder contains no decoded sentences."""
        return self.manifest.read()

    def encode(self, content: list[Decoded]) -> list[bytes]:
        """Return the sentences as the content of a block's file."""
        return with_end([sentence.as_line() for sentence in sorted(content, key=lambda sentence: sentence.id)])

    def is_whole(self, block: int) -> bool:
        """Return whether the checksum in a block's last line is correct."""
        return checked_end(self.path(block)) is not None

    def checksum(self, block: int) -> str | None:
        """Return the checksum in the last line of an existing block, or None if that line is damaged."""
        end = end_of(self.path(block))
        return end.get("sha256") if end else None

    def read(self, block: int) -> Iterator[Decoded]:
        """Yield the sentences of a complete block in the order of their numbers."""
        with open(self.path(block), encoding="utf-8") as file:
            for line in file:
                if not line.startswith(END):
                    yield Decoded.from_line(line)

    def sentences_so_far(self, block_sentences: int) -> int:
        """Count the sentences up to the end of the last block, for input whose length was not known beforehand."""
        blocks = sorted(int(path.stem) for path in self.folder.glob(f"*{self.suffix}"))
        if not blocks:
            return 0
        end = end_of(self.path(blocks[-1])) or {}  # if it is damaged, one of its sentences is enough to be missed
        return blocks[-1] * block_sentences + end.get("sentences", 1)
