"""Decoded sentences on disk, safe to lose power over.

The sentences of a set are cut into blocks, and each block becomes one file, which appears under its name only when it
is complete and on disk. What a block holds depends on the data and the settings alone, never on the workers. So a
restart decodes the blocks that are missing, with any number of workers, and two that decode the same block write the
same file.

A file has a JSON object a line, one for each sentence in the order of their numbers:

    {"id": 17, "source": "1c291ca3", "hypotheses": [[-0.31, "▁Ein ▁Mann ."], [-0.58, "▁Der ▁Mann ."]]}

with a checksum of the source's tokens and the hypotheses, best first, and at its end one line with the number of
sentences and the SHA-256 of all before.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy

from nmt_kd.errors import UserError
from nmt_kd.storage.manifest import Manifest, write_durably


@dataclass(frozen=True)
class Hypothesis:
    """One translation: its score as the decoder gives it (higher is better), and its subwords as one string."""

    score: float
    text: str


@dataclass(frozen=True)
class Decoded:
    """One sentence with its n-best list, best first."""

    id: int
    source: str  # checksum of the source's tokens
    hypotheses: list[Hypothesis]
    notes: dict = field(default_factory=dict)  # what else was asked for

    def as_line(self) -> str:
        """The sentence as a line of a shard."""
        pairs = [[round(hypothesis.score, 5), hypothesis.text] for hypothesis in self.hypotheses]
        record = {"id": self.id, "source": self.source, "hypotheses": pairs, **self.notes}
        return json.dumps(record, ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Decoded":
        """The inverse of `as_line`."""
        record = json.loads(line)
        pairs = [Hypothesis(*pair) for pair in record.pop("hypotheses")]
        return cls(record.pop("id"), record.pop("source"), pairs, record)


@dataclass(frozen=True)
class Blocks:
    """Which sentences each block holds: of about the same length, the longest first."""

    sizes: numpy.ndarray  # source tokens of each sentence
    block_sentences: int

    def __len__(self) -> int:
        return -(-len(self.sizes) // self.block_sentences)

    def sentences(self, block: int) -> numpy.ndarray:
        """The numbers of the block's sentences, the longest first."""
        return self._longest_first[block * self.block_sentences : (block + 1) * self.block_sentences]

    @cached_property
    def _longest_first(self) -> numpy.ndarray:
        return numpy.argsort(-self.sizes.astype(numpy.int64), kind="stable")

    def of_worker(self, worker: int, workers: int) -> range:
        """The blocks that one of several workers decodes: every n-th, so that each gets long and short ones."""
        return range(worker, len(self), workers)


class ShardFolder:
    """The shards of one decoding, with the settings that made them."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.shards = self.folder / "shards"
        self.manifest = Manifest(
            self.folder, "decoded sentences", "fairseq-generate --task seq_kd --distill-dir", "--distill-dir"
        )

    def path(self, block: int) -> Path:
        """Where a block lies once it is complete."""
        return self.shards / f"{block:07}.jsonl"

    # -- settings -----------------------------------------------------------------------------------------------------

    def claim(self, settings: dict) -> None:
        """Note what these shards are made with; UserError where some are there that were made with anything else."""
        self.shards.mkdir(parents=True, exist_ok=True)
        self.manifest.claim(settings)

    def settings(self) -> dict:
        """What the shards were made with; UserError where the folder holds none."""
        return self.manifest.read()

    # -- shards -------------------------------------------------------------------------------------------------------

    def is_complete(self, block: int) -> bool:
        """Whether a block is there and whole; a damaged one is put aside, to be decoded again."""
        path = self.path(block)
        if not path.exists():
            return False
        if _is_whole(path):
            return True
        path.replace(path.with_suffix(".damaged"))
        return False

    def write(self, block: int, sentences: list[Decoded]) -> None:
        """Put a block on disk, whole or not at all."""
        body = "".join(sentence.as_line() for sentence in sorted(sentences, key=lambda sentence: sentence.id))
        end = json.dumps({"sentences": len(sentences), "sha256": hashlib.sha256(body.encode()).hexdigest()})
        partial = self.shards / f"{block:07}.partial.{os.getpid()}"
        try:
            write_durably(partial, [f"{body}{end}\n".encode()])
            partial.replace(self.path(block))
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UserError(
                f"cannot write {self.path(block)}: {error.strerror}; nothing that was finished is lost, "
                "make room and run the same command again"
            ) from None

    def read(self, block: int) -> Iterator[Decoded]:
        """The sentences of a complete block, in the order of their numbers."""
        with open(self.path(block), encoding="utf-8") as file:
            for line in file:
                if not line.startswith('{"sentences"'):
                    yield Decoded.from_line(line)

    def typed_sentences(self, block_sentences: int) -> int:
        """How many sentences there are where the number was not known when the decoding began."""
        blocks = sorted(int(path.stem) for path in self.shards.glob("*.jsonl"))
        if not blocks:
            return 0
        return blocks[-1] * block_sentences + sum(1 for _ in self.read(blocks[-1]))


def _is_whole(path: Path) -> bool:
    body, _, end = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
    if body:
        body += b"\n"
    try:
        return json.loads(end)["sha256"] == hashlib.sha256(body).hexdigest()
    except (ValueError, KeyError, TypeError):
        return False
