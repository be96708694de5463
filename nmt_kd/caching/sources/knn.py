"""The gold tokens at the nearest decoder states of a training set (kNN-KD, Yang et al., NAACL 2022).

`nmt-kd datastore` writes the states; --teacher-path is the base model they were made with. To try several temperatures,
search once with `nmt-kd neighbours`, and give its folder as --knn-neighbours.
"""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.neighbours.finding import Finder
from nmt_kd.caching.neighbours.opening import SearchOptions, open_finder
from nmt_kd.caching.neighbours.statistics import Statistics
from nmt_kd.caching.neighbours.stored import StoredFinder
from nmt_kd.caching.sources import checkpoint
from nmt_kd.engine.distribution import Distribution, TopDistribution, WholeDistribution
from nmt_kd.engine.predictions import Predictions, PredictionSource
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.losses.neighbours import mixed_with, neighbour_distribution
from nmt_kd.losses.precision import log_probabilities
from nmt_kd.options import ABOVE_0, ABOVE_0_TO_1, AT_LEAST_0, flag, option


@dataclass
class Options(SearchOptions):
    """How neighbours are found and become a distribution."""

    knn_neighbours: str = option("", "folder that nmt-kd neighbours writes, instead of a search")
    knn_temperature: float = option(
        0.0, "temperature of the squared distances; 0: use --knn-relative-temperature", AT_LEAST_0
    )
    knn_relative_temperature: float = option(
        0.2,
        "temperature as a fraction of the mean distance of a position's neighbours",
        ABOVE_0,
    )
    knn_own_entry: bool = option(False, "keep a position's own entry among its neighbours, as in the paper")
    knn_share: float = option(
        1.0,
        "weight of the neighbours' distribution; the base model's has the rest",
        ABOVE_0_TO_1,
    )


def open_source(data: str, teacher_path: str, options: Options) -> tuple[FairseqTask, "NeighbourSource"]:
    """Return the task of the base model on `data`, and the source; raises UserError if something does not fit."""
    task, base = checkpoint.open_source(data, teacher_path, checkpoint.Options())
    if not options.knn_neighbours:
        return task, NeighbourSource(task, base, open_finder(task, base, teacher_path, options), options)
    for item in fields(SearchOptions):
        if item.name != "knn_k" and getattr(options, item.name) != item.default:
            raise UserError(
                f"{flag(item.name)} is an option of the search, but --knn-neighbours gives neighbours already found; "
                "leave out one of them"
            )
    finder = StoredFinder(options.knn_neighbours, task, base.fingerprint, teacher_path)
    if options.knn_k > finder.k:
        raise UserError(
            f"--knn-k is {options.knn_k}, but {options.knn_neighbours} has {finder.k} neighbours of each position; "
            f"give at most {finder.k}"
        )
    return task, NeighbourSource(task, base, finder, options)


@dataclass
class NeighbourSource(PredictionSource):
    """Predicts the tokens of the nearest entries of a datastore."""

    task: FairseqTask
    base: Teacher
    finder: Finder
    options: Options
    subset: str = ""
    statistics: Statistics = field(default_factory=Statistics)

    def __post_init__(self) -> None:
        options = self.options
        relative = f"relative temperature {options.knn_relative_temperature:g}"
        parts = [
            self.finder.fingerprint,
            f"k {options.knn_k}",
            f"temperature {options.knn_temperature:g}" if options.knn_temperature else relative,
            "own entry in" if options.knn_own_entry else "own entry out",
            f"share {options.knn_share:g}",
        ]
        self.fingerprint = ", ".join(parts)

    def max_positions(self) -> tuple[int, int]:
        return self.base.max_positions()

    def on_subset(self, subset: str) -> "NeighbourSource":
        self.finder.check(self.task, subset)
        return replace(self, subset=subset, statistics=Statistics())

    def summary(self) -> str:
        return self.statistics.summary()

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> "NeighbourPredictions":
        return NeighbourPredictions(self, sample, token_index, like.float())  # as the keys of the datastore

    def temperatures(self, distances: Tensor) -> Tensor:
        """Return the temperature at each position, [positions, 1], given the distances of its neighbours.

        A relative one is a fraction of their mean. So it fits models of any width, and does not depend on other
        positions.
        """
        if self.options.knn_temperature:
            return distances.new_full((len(distances), 1), self.options.knn_temperature)
        mean = distances.double().mean(-1, keepdim=True)
        return (self.options.knn_relative_temperature * mean).clamp(min=torch.finfo(torch.float32).tiny)


class NeighbourPredictions(Predictions):
    """The predictions of neighbours for some target tokens, found when they are first used."""

    def __init__(self, source: NeighbourSource, sample: dict, token_index: Tensor, like: Tensor):
        self._source, self._arguments = source, (sample, token_index, like)
        self._gold = sample["target"].flatten()[token_index]
        self._base = source.base.read(sample, token_index, like)  # runs when it is used

    @cached_property
    def distribution(self) -> TopDistribution:
        """The distributions at all tokens."""
        source, size = self._source, len(self._source.task.target_dictionary)
        found = source.finder.find(source.subset, *self._arguments)
        distances, tokens = found.chosen(source.options.knn_k, source.options.knn_own_entry)
        words, log_q = neighbour_distribution(distances, tokens, source.temperatures(distances), size)
        source.statistics.add_neighbours(distances, words, log_q, self._gold, size)
        return TopDistribution(words, log_q, log_q.new_full((len(log_q),), -torch.inf), size)

    def predict(self, rows: slice) -> Distribution:
        top, share = self.distribution.rows(rows), self._source.options.knn_share
        if share == 1:
            return top
        mixed = WholeDistribution(mixed_with(log_probabilities(self._base.logits(rows)), top.words, top.log_q, share))
        self._source.statistics.add(mixed=-mixed.nll(self._gold[rows]))
        return mixed
