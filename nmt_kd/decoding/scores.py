"""Scores of decoded sentences, stored in blocks beside the decoding so that all corpora share them.

A block belongs to the decoding's block with the same number. Its file has one JSON object a line,

    {"id": 17, "scores": [[0, -0.31], [2, -0.58]]}

with the ranks of the hypotheses that were scored, and a last line with checksums of the file and the decoding's block.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nmt_kd.decoding.shards import Decoded, ShardFolder
from nmt_kd.storage.blocks import BlockFolder
from nmt_kd.storage.lines import END, checked_end, with_end
from nmt_kd.storage.manifest import Manifest

DIGITS = 6  # after the point


@dataclass(frozen=True)
class Scored:
    """The scores of a sentence's hypotheses, by their ranks in the n-best list."""

    id: int
    scores: dict[int, float]

    def as_line(self) -> str:
        """Return the sentence as a line of a block's file."""
        rounded = [[rank, round(score, DIGITS)] for rank, score in self.scores.items()]
        return json.dumps({"id": self.id, "scores": rounded}) + "\n"


@dataclass(frozen=True)
class ScoreBlock:
    """The scores of a block of a decoding."""

    decoded: str | None  # the checksum of the decoding's block
    sentences: list[Scored]


class ScoreFolder(BlockFolder[ScoreBlock]):
    """The scores of one decoding that were made with certain settings."""

    suffix = ".jsonl"

    def __init__(self, shards: ShardFolder, name: str, settings: dict):
        """Open or make the folder for the scores `name` that `settings` determine; UserError if it cannot be made."""
        self.shards, self.name = shards, name
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        self.folder = shards.distill_dir / "scores" / f"{name}-{key}"
        Manifest(self.folder, "scores", "nmt-kd assemble").claim(settings)

    def encode(self, content: ScoreBlock) -> list[bytes]:
        """Return the parts of a block's file."""
        return with_end([sentence.as_line() for sentence in content.sentences], decoded=content.decoded)

    def is_whole(self, block: int) -> bool:
        """Return whether a block is undamaged, and of the decoding as it is now."""
        end = checked_end(self.path(block))
        return end is not None and end.get("decoded") == self.shards.checksum(block)

    def read(self, block: int) -> Iterator[Scored]:
        """Yield the scores of a complete block in the order of the sentences' numbers."""
        with open(self.path(block), encoding="utf-8") as file:
            for line in file:
                if not line.startswith(END):
                    record = json.loads(line)
                    yield Scored(record["id"], dict(record["scores"]))


def read_with_scores(shards: ShardFolder, block: int, scores: Sequence[ScoreFolder]) -> Iterator[Decoded]:
    """Yield the sentences of a block with their scores in `notes`: a list of ranks and scores under each name."""
    for decoded, *rows in zip(shards.read(block), *(folder.read(block) for folder in scores), strict=True):
        notes = {folder.name: list(row.scores.items()) for folder, row in zip(scores, rows, strict=True)}
        yield replace(decoded, notes={**decoded.notes, **notes})


def scores_of(decoded: Decoded, name: str) -> dict[int, float]:
    """Return the scores of a sentence under a name, by the ranks of its hypotheses."""
    return dict(decoded.notes[name])
