"""Look up cached predictions while fairseq makes batches, in the workers of its data loader, instead of in a step.

fairseq's data loader calls its data set's `collater` in its workers. Here, the workers also add the predictions to
fairseq's sample, which is pinned and copied to a GPU without waiting. If a task makes its batches in another way, its
samples have no predictions, and the training step looks them up.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask

from nmt_kd.caching.packing import PackedPredictions
from nmt_kd.caching.reading import TeacherCache


@dataclass(frozen=True)
class CollaterWithPredictions:
    """Makes a batch as fairseq does, with the predictions for it in a cache."""

    collate: Callable[[list], dict]
    cache: TeacherCache
    training: bool  # whether it is a batch of the subset to train on, on which fairseq may also validate

    def __call__(self, items: list) -> dict:
        sample = self.collate(items)
        if not sample or "net_input" not in sample:  # nothing to predict, or batches of several language pairs
            return sample
        found = self.cache.look_up(self.cache.sentences_of(sample), self.training)
        return {**sample, _key(self.cache): vars(found)}


def prefetch(task: FairseqTask, cache: TeacherCache) -> None:
    """Make `task` add the predictions in `cache` to its batches, where `prefetched` reads them."""
    get_batch_iterator = task.get_batch_iterator

    @functools.wraps(get_batch_iterator)
    def get_iterator_with_predictions(dataset: FairseqDataset, *args, **kwargs):
        iterator = get_batch_iterator(dataset, *args, **kwargs)
        collate = getattr(iterator, "collate_fn", None)
        if collate is not None and not _has(collate, cache):  # fairseq may return the iterator of an earlier call
            training = dataset is task.datasets.get(cache.training_subset)
            iterator.collate_fn = CollaterWithPredictions(collate, cache, training)
        return iterator

    task.get_batch_iterator = get_iterator_with_predictions


def prefetched(sample: dict, cache: TeacherCache) -> PackedPredictions | None:
    """Return the predictions in `cache` that fairseq's `sample` contains, or None if it contains none."""
    found = sample.get(_key(cache))
    return None if found is None else PackedPredictions(**found)


def _key(cache: TeacherCache) -> str:
    return f"predictions in {cache.folder}"


def _has(collate: Callable[[list], dict], cache: TeacherCache) -> bool:
    while isinstance(collate, CollaterWithPredictions):
        if collate.cache is cache:
            return True
        collate = collate.collate
    return False
