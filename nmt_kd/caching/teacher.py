"""A teacher whose predictions lie on disk (`nmt-kd cache`): nothing of its models is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from nmt_kd.caching.reading import TeacherCache
from nmt_kd.engine.distribution import TopPrediction
from nmt_kd.errors import UserError


@dataclass(frozen=True)
class CachedTeacher:
    """Takes the place of a `Teacher` where its most probable words are enough."""

    cache: TeacherCache
    vocabulary_size: int
    criterion: nn.Module  # says whether this is training or validation

    @classmethod
    def open(cls, folder: str, task: FairseqTask, words: int, criterion: nn.Module) -> "CachedTeacher":
        """Open a cache that has at least so many `words` a token; UserError where it has fewer or does not fit."""
        cache = TeacherCache.open(folder, task)
        if words > cache.top_k:
            raise UserError(
                f"{folder} has the teacher's {cache.top_k} most probable words, these settings need {words}; make "
                f"another with nmt-kd cache --top-k {words}"
            )
        return cls(cache, len(task.target_dictionary), criterion)

    @property
    def fingerprint(self) -> str:
        """Of the teacher that the cache was made with."""
        return self.cache.fingerprint

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> "CachedReading":
        """What the cache has about fairseq's `sample`; `token_index` as for `Teacher.read`.

        Which sentences these are is found out at once, before a GPU has work to wait for; they are looked up when
        something of them is first asked for.
        """
        sentences, training = self.cache.sentences_of(sample), self.criterion.training

        def look_up() -> TopPrediction:
            words, log_q, log_rest = (
                part.flatten(0, 1)[token_index] for part in self.cache.top_of(sentences, training, token_index.device)
            )
            # what was rounded on disk sums up to one again
            total = torch.cat([log_q, log_rest.unsqueeze(-1)], dim=-1).logsumexp(-1)
            return TopPrediction(words, log_q - total.unsqueeze(-1), log_rest - total, self.vocabulary_size)

        return CachedReading(look_up)


class CachedReading:
    """What a cache has about some target tokens; looked up when this is first asked for."""

    def __init__(self, look_up: Callable[[], TopPrediction]):
        self._look_up = look_up

    @cached_property
    def prediction(self) -> TopPrediction:
        """For all of the tokens."""
        return self._look_up()

    def predict(self, rows: slice) -> TopPrediction:
        """As `TeacherReading.predict`."""
        whole = self.prediction
        return TopPrediction(whole.words[rows], whole.log_q[rows], whole.log_rest[rows], whole.vocabulary_size)

    def first_choices(self, chunk_size: int = 0) -> Tensor:
        """As `TeacherReading.first_choices`."""
        return self.prediction.first_choice
