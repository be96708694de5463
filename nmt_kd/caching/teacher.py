"""A teacher whose predictions are read from a cache (`nmt-kd cache`), without loading its models."""

from collections.abc import Callable
from functools import cached_property

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from nmt_kd.caching.prefetching import prefetch, prefetched
from nmt_kd.caching.reading import TeacherCache
from nmt_kd.caching.sentences import Sentences
from nmt_kd.data import TRAINING_SUBSET
from nmt_kd.engine.distribution import Distribution, TopDistribution
from nmt_kd.engine.predictions import Need, Predictions, TeacherSource, TopWords
from nmt_kd.errors import UserError
from nmt_kd.losses.divergence import LOG_OF_NOTHING


class CachedTeacher(TeacherSource):
    """Replaces a `Teacher` for methods that need only its most probable words."""

    def __init__(self, cache: TeacherCache, vocabulary_size: int, criterion: nn.Module):
        """Make a teacher of an open `cache`; `criterion.training` distinguishes training from validation."""
        self.cache, self.vocabulary_size, self.criterion = cache, vocabulary_size, criterion
        self.fingerprint = cache.fingerprint

    @classmethod
    def open(
        cls,
        folder: str,
        task: FairseqTask,
        need: Need,
        criterion: nn.Module,
        method: str = "this method",
        settings_for_a_cache: str = "",
        train_subset: str = TRAINING_SUBSET,
    ) -> "CachedTeacher":
        """Return the teacher in the cache `folder`, which must meet the `need` of a method.

        `settings_for_a_cache` are flags with which the method works from a cache, if there are any. The batches that
        `task` makes, of `train_subset` to train on, will contain their predictions. Raises UserError if no cache can
        meet the need, or if this one has too few words or does not fit the data.
        """
        if not isinstance(need, TopWords) or need.at_new_prefixes:
            alternative = f", or keep the cache and add {settings_for_a_cache}" if settings_for_a_cache else ""
            raise UserError(
                f"{method} with these settings needs the teacher itself, not only its top words; give --teacher-path "
                f"instead of --teacher-cache{alternative}"
            )
        cache = TeacherCache.open(folder, task, train_subset)
        if need.k > cache.top_k:
            raise UserError(
                f"{folder} has only the teacher's top {cache.top_k} words, but these settings need {need.k}; make "
                f"another with nmt-kd cache --top-k {need.k}"
            )
        prefetch(task, cache)
        return cls(cache, len(task.target_dictionary), criterion)

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> "CachedPredictions":
        """Return the predictions for fairseq's `sample`, see `TeacherSource`.

        If `sample` does not contain them (see `prefetch`), the sentences are identified right away, before the GPU is
        busy, and looked up when predictions are first used.
        """
        found = prefetched(sample, self.cache) or self.cache.sentences_of(sample)
        training = self.criterion.training

        def look_up() -> TopDistribution:
            packed = self.cache.look_up(found, training) if isinstance(found, Sentences) else found
            parts = packed.on(token_index.device).unpacked()
            words, log_q, log_rest = (part.flatten(0, 1)[token_index] for part in parts)
            known = ~log_rest.isnan()
            log_q = log_q.where(known.unsqueeze(-1), LOG_OF_NOTHING)
            log_rest = log_rest.where(known, 0.0)
            # normalise, because the probabilities on disk are rounded
            total = torch.cat([log_q, log_rest.unsqueeze(-1)], dim=-1).logsumexp(-1)
            return TopDistribution(words, log_q - total.unsqueeze(-1), log_rest - total, self.vocabulary_size, known)

        return CachedPredictions(look_up)


class CachedPredictions(Predictions):
    """The predictions of a cache for some target tokens, looked up when they are first used."""

    def __init__(self, look_up: Callable[[], TopDistribution]):
        self._look_up = look_up

    @cached_property
    def distribution(self) -> TopDistribution:
        """The distributions at all tokens."""
        return self._look_up()

    def predict(self, rows: slice) -> Distribution:
        return self.distribution.rows(rows)

    def first_choices(self, chunk_tokens: int = 0) -> Tensor:
        return self.distribution.first_choice
