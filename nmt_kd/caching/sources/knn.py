"""The gold tokens at the nearest decoder states of a training set (kNN-KD, Yang et al., NAACL 2022).

`nmt-kd datastore` writes the states; --teacher-path is the base model it was made with.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.neighbours.datastore import Datastore
from nmt_kd.caching.neighbours.keys import KeyReader
from nmt_kd.caching.neighbours.search import ExactSearch, Neighbours, Search
from nmt_kd.caching.sources import checkpoint
from nmt_kd.engine.distribution import TopDistribution
from nmt_kd.engine.predictions import Predictions, PredictionSource
from nmt_kd.errors import UserError
from nmt_kd.losses.neighbours import neighbour_distribution
from nmt_kd.options import AT_LEAST_0, AT_LEAST_1, Allowed, option

POSITIVE = Allowed("more than 0", lambda value: value > 0)


@dataclass
class Options:
    """How neighbours are found and become a distribution."""

    knn_datastore: str = option("", "folder that nmt-kd datastore wrote")
    knn_k: int = option(64, "number of neighbours", AT_LEAST_1)  # of the paper, for IWSLT14
    knn_temperature: float = option(0.0, "temperature of the distances; 0: use --knn-relative-temperature", AT_LEAST_0)
    knn_relative_temperature: float = option(
        0.2, "temperature as a fraction of the mean distance of a position's neighbours", POSITIVE
    )
    knn_own_entry: bool = option(False, "let a position of the datastore's subset find itself, as in the paper")


def open_source(data: str, teacher_path: str, options: Options) -> tuple[FairseqTask, "NeighbourSource"]:
    """Return the task of the base model on `data`, and the source; raises UserError if something does not fit."""
    task, base = checkpoint.open_source(data, teacher_path, checkpoint.Options())
    if not options.knn_datastore:
        raise UserError("--source knn needs --knn-datastore, a folder that nmt-kd datastore writes; give one")
    reader = KeyReader(base, teacher_path)
    datastore = Datastore.open(options.knn_datastore, task, base.fingerprint, teacher_path)
    return task, NeighbourSource(task, reader, ExactSearch(datastore), options)


@dataclass
class NeighbourSource(PredictionSource):
    """Predicts the tokens of the nearest entries of a datastore."""

    task: FairseqTask
    reader: KeyReader
    search: Search
    options: Options
    subset: str = ""

    def __post_init__(self) -> None:
        entries = len(self.datastore.entries)
        if self.options.knn_k >= entries:
            raise UserError(
                f"--knn-k is {self.options.knn_k}, but {self.datastore.folder} has only {entries} entries; give fewer"
            )
        self.fingerprint = "+".join(
            [
                self.reader.base.fingerprint,
                f"knn of {self.datastore.subset} {self.datastore.settings['data']}",
                f"{self.search.name} k={self.options.knn_k}",
                self._temperature_name(),
                "own entry in" if self.options.knn_own_entry else "own entry out",
            ]
        )

    def _temperature_name(self) -> str:
        if self.options.knn_temperature:
            return f"temperature={self.options.knn_temperature:g}"
        return f"relative temperature={self.options.knn_relative_temperature:g}"

    @property
    def datastore(self) -> Datastore:
        """The datastore."""
        return self.search.datastore

    def max_positions(self) -> tuple[int, int]:
        return self.reader.base.max_positions()

    def on_subset(self, subset: str) -> "NeighbourSource":
        if subset == self.datastore.subset:
            self.datastore.check_data(self.task)
        return replace(self, subset=subset)

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> "NeighbourPredictions":
        return NeighbourPredictions(self, sample, token_index, like)

    def neighbours(self, sample: dict, token_index: Tensor, like: Tensor) -> Neighbours:
        """Return the neighbours of all tokens of fairseq's sample."""
        keys, _ = self.reader.read(sample, token_index, like)
        k = self.options.knn_k
        if self.subset != self.datastore.subset or self.options.knn_own_entry:
            return self.search.nearest(keys, k)
        own = torch.from_numpy(self.datastore.entries_of(sample["id"].tolist())).to(keys.device)
        return self.search.nearest(keys, k + 1).without(own)

    def temperatures(self, distances: Tensor) -> Tensor:
        """Return the temperature at each position, [positions, 1], given the distances of its neighbours.

        A relative one is a fraction of their mean, so it fits models of any width, and each position can be computed by
        itself.
        """
        if self.options.knn_temperature:
            return distances.new_full((len(distances), 1), self.options.knn_temperature)
        mean = distances.double().mean(-1, keepdim=True)
        return (self.options.knn_relative_temperature * mean).clamp(min=torch.finfo(torch.float32).tiny)


class NeighbourPredictions(Predictions):
    """The predictions of neighbours for some target tokens, found when they are first used."""

    def __init__(self, source: NeighbourSource, sample: dict, token_index: Tensor, like: Tensor):
        self._source, self._arguments = source, (sample, token_index, like)

    @cached_property
    def distribution(self) -> TopDistribution:
        """The distributions at all tokens."""
        found = self._source.neighbours(*self._arguments)
        entries, device = self._source.datastore.entries, found.entries.device
        tokens = torch.from_numpy(entries.at("tokens", found.entries.cpu().numpy()).astype("<i8")).to(device)
        size = len(self._source.task.target_dictionary)
        temperatures = self._source.temperatures(found.distances)
        words, log_q = neighbour_distribution(found.distances, tokens, temperatures, size)
        return TopDistribution(words, log_q, log_q.new_full((len(log_q),), -torch.inf), size)

    def predict(self, rows: slice) -> TopDistribution:
        return self.distribution.rows(rows)
