"""The tokens at the nearest neighbours of target positions, and their search in a datastore."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.neighbours.keys import KeyReader
from nmt_kd.caching.neighbours.search import Search
from nmt_kd.errors import UserError


@dataclass(frozen=True)
class NeighbourTokens:
    """The nearest neighbours of some positions, one more than needed in case the position itself is among them."""

    distances: Tensor  # [positions, k + 1], squared, nearest first, float32
    tokens: Tensor  # [positions, k + 1], int64
    own: Tensor  # [positions], int64: the column of the position's own entry, or -1

    def chosen(self, k: int, own_entry: bool) -> tuple[Tensor, Tensor]:
        """Return the distances and tokens of the `k` nearest, with the positions' own entries or without them."""
        if own_entry:
            return self.distances[:, :k], self.tokens[:, :k]
        column, own = torch.arange(k, device=self.own.device), self.own.unsqueeze(-1)
        column = column + ((own >= 0) & (column >= own))
        return self.distances.gather(-1, column), self.tokens.gather(-1, column)


class Finder(ABC):
    """Where neighbours come from."""

    fingerprint: str  # identifies the base model, the datastore and the search
    k: int  # neighbours of a position, without itself

    @abstractmethod
    def check(self, task: FairseqTask, subset: str) -> None:
        """Raise UserError unless there are neighbours for a subset of `task`, which is open."""

    @abstractmethod
    def find(self, subset: str, sample: dict, token_index: Tensor, like: Tensor) -> NeighbourTokens:
        """Return the neighbours at all tokens of fairseq's sample; see `TeacherSource.read` for the arguments."""


class SearchingFinder(Finder):
    """Runs the base model and searches the datastore."""

    def __init__(self, reader: KeyReader, search: Search, k: int):
        """Make a finder; raises UserError if the datastore has too few entries."""
        self.reader, self.search, self.datastore, self.k = reader, search, search.datastore, k
        if k >= (entries := len(self.datastore.entries)):
            raise UserError(f"--knn-k is {k}, but {self.datastore.folder} has only {entries} entries; give fewer")
        self.fingerprint = "+".join([reader.base.fingerprint, self.datastore.fingerprint, search.name])

    def check(self, task: FairseqTask, subset: str) -> None:
        if subset == self.datastore.subset:
            self.datastore.check_data(task)

    def find(self, subset: str, sample: dict, token_index: Tensor, like: Tensor) -> NeighbourTokens:
        keys = self.reader.read(sample, token_index, like)
        found = self.search.nearest(keys, self.k + 1)
        tokens = self.datastore.tokens(found.entries)
        own = torch.full((len(keys),), -1, device=keys.device)
        if subset == self.datastore.subset:
            is_own = found.entries == self.datastore.own_entries(sample, keys).unsqueeze(-1)
            own = is_own.int().argmax(-1).where(is_own.any(-1), -1)
        return NeighbourTokens(found.distances, tokens, own)
