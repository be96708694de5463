"""Find the nearest entries of a datastore by squared Euclidean distance."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from nmt_kd.caching.neighbours.datastore import Datastore
from nmt_kd.engine.chunks import chunk_slices
from nmt_kd.losses.top_k import top_k_indices

KEYS_AT_ONCE = 2**15
QUERIES_AT_ONCE = 2**9
ELEMENTS_AT_ONCE = 2**23  # when distances are computed one by one
MARGIN = 16  # candidates beside the k nearest, since the distances that select them are rounded


@dataclass(frozen=True)
class Neighbours:
    """The nearest entries to some queries, nearest first; of entries at the same distance, the earlier one first."""

    distances: Tensor  # [queries, k], squared, float32
    entries: Tensor  # [queries, k], int64

    def first(self, k: int) -> "Neighbours":
        """Return the `k` nearest."""
        return Neighbours(self.distances[:, :k], self.entries[:, :k])


class Search(ABC):
    """A way to find neighbours in a datastore."""

    name: str  # identifies the search, with all settings that change its results

    def __init__(self, datastore: Datastore):
        self.datastore = datastore

    @abstractmethod
    def candidates(self, queries: Tensor, k: int) -> Tensor:
        """Return entries, [queries, at least k], among which the k nearest are; -1 where there are fewer.

        `queries` are keys [queries, width], float16; `k` is at most the number of entries.
        """

    def nearest(self, queries: Tensor, k: int) -> Neighbours:
        """Return the `k` nearest entries to `queries`, keys [queries, width] in float16.

        The distances to the candidates are computed from the differences, in float32, so they are exactly 0 for equal
        keys and do not depend on what else is computed at the same time.
        """
        entries = self.candidates(queries, k).sort(dim=-1).values
        rows = max(1, ELEMENTS_AT_ONCE // (entries.size(-1) * queries.size(-1)))
        distances = torch.cat(
            [self._distances(queries[some], entries[some]) for some in chunk_slices(len(queries), rows)]
        )
        distances, order = distances.sort(dim=-1, stable=True)
        return Neighbours(distances, entries.gather(-1, order)).first(k)

    def _distances(self, queries: Tensor, entries: Tensor) -> Tensor:
        found = self.datastore.entries.at("keys", entries.clamp(min=0).cpu().numpy())
        keys = torch.from_numpy(found).to(queries.device).float()
        distances = keys.sub_(queries.float().unsqueeze(1)).square_().sum(-1)
        return distances.where(entries >= 0, torch.inf)


class ExactSearch(Search):
    """Compares every query with every key; memory does not grow with the datastore.

    The candidates are selected by `2 q.x - |x|^2`, whose rounding error is far below the differences that matter. If
    more than `MARGIN` entries are as near as the k-th, up to that error, it may decide which of them are found.
    """

    name = "exact"

    def candidates(self, queries: Tensor, k: int) -> Tensor:
        count = min(k + MARGIN, len(self.datastore.entries))
        device, queries = queries.device, queries.float()
        nearness = torch.full((len(queries), 0), -torch.inf, device=device)
        entries = torch.full((len(queries), 0), -1, device=device)
        for first, piece in self.datastore.entries.pieces("keys", KEYS_AT_ONCE):
            keys = torch.from_numpy(piece).to(device).float()
            norms, parts = keys.square().sum(-1), []
            for rows in chunk_slices(len(queries), QUERIES_AT_ONCE):
                new = torch.addmm(norms, queries[rows], keys.T, beta=-1, alpha=2)
                columns = largest(new, min(count, len(keys)))
                near = torch.cat([nearness[rows], new.gather(-1, columns)], dim=-1)
                near, order = near.sort(dim=-1, descending=True, stable=True)  # earlier entries come first
                parts.append((near[:, :count], torch.cat([entries[rows], first + columns], -1).gather(-1, order)))
            nearness, entries = (torch.cat(part)[:, :count] for part in zip(*parts, strict=True))
        return entries


def largest(values: Tensor, count: int) -> Tensor:
    """Return the columns of the `count` largest entries of each row, the lower ones of equals, in ascending order."""
    if count == values.size(-1):
        return torch.arange(count, device=values.device).expand(len(values), -1)
    columns = top_k_indices(values, count + 1)
    found = values.gather(-1, columns)
    tied = found[:, count - 1] == found[:, count]
    columns = columns[:, :count]
    if tied.any():
        columns[tied] = values[tied].sort(dim=-1, descending=True, stable=True).indices[:, :count]
    return columns.sort(dim=-1).values
