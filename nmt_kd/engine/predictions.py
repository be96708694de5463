"""The interfaces of teachers and their predictions, and the needs that a method declares."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nmt_kd.engine.distribution import Distribution, TopDistribution
from nmt_kd.engine.models import ModelOutput
from nmt_kd.losses.divergence import kl_divergence
from nmt_kd.losses.divergence_kinds import Divergence
from nmt_kd.losses.logits import Logits

# ---------------------------------------------------------------------------------------------------------------------
# Needs
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TopWords:
    """The `k` most probable words at each target token, and the divergence, as exact as the teacher can tell.

    A cache has them, but not `at_new_prefixes`: at target prefixes other than those of the data, such as the student's
    own predictions.
    """

    k: int
    at_new_prefixes: bool = False


@dataclass(frozen=True)
class FullDistribution:
    """The probabilities of all words at each target token."""

    at_new_prefixes: bool = False


@dataclass(frozen=True)
class HiddenStates:
    """The outputs of all layers of the teacher's models, and the probabilities of all words."""

    at_new_prefixes: bool = False


Need = TopWords | FullDistribution | HiddenStates


class UndeclaredNeedError(TypeError):
    """Raised when a method uses something of its teacher that its `needs` do not declare."""


# ---------------------------------------------------------------------------------------------------------------------
# Predictions
# ---------------------------------------------------------------------------------------------------------------------


class Predictions(ABC):
    """A teacher's predictions at some target tokens."""

    @abstractmethod
    def predict(self, rows: slice) -> Distribution:
        """Return the distributions at any slice of the tokens."""

    def first_choices(self, chunk_tokens: int = 0) -> Tensor:
        """Return the most probable word at each of the tokens, [tokens]; `chunk_tokens` is as in `SummedLoss`."""
        return self.predict(slice(None)).first_choice

    def decode(self, prev_output_tokens: Tensor) -> "Predictions":
        """Return the predictions at the same tokens with other decoder inputs [batch, length]."""
        raise UndeclaredNeedError(f"{type(self).__name__} cannot predict at new prefixes")

    @property
    def outputs(self) -> list[ModelOutput]:
        """The output of each of the teacher's models."""
        raise UndeclaredNeedError(f"{type(self).__name__} has no hidden states")


class TeacherSource(ABC):
    """Where a teacher's predictions come from: models, a cache, the student's own average."""

    fingerprint: str = "unnamed"  # identifies the teacher in the log
    models: Sequence[nn.Module] = ()  # the frozen models behind the predictions, if any
    is_trained: bool = True  # if so, predictions no better than chance mean that it does not fit the data

    @abstractmethod
    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> Predictions:
        """Return the predictions for fairseq's `sample` at the tokens of `token_index` (see `run_model`).

        Models run when their predictions are first used, on the device and in the precision of `like`, a parameter of
        the student, in evaluation mode and without gradients.
        """


class PredictionSource(TeacherSource):
    """A teacher whose predictions for the references can be cached."""

    @abstractmethod
    def max_positions(self) -> tuple[int, int]:
        """Return the lengths of the longest source and target that it accepts, in tokens."""

    def on_subset(self, subset: str) -> "PredictionSource":
        """Return the source for the sentences of a subset, which may differ from that for others."""
        return self

    @property
    def most_words(self) -> int | None:
        """The number of words that it predicts at a position, or None if it predicts all."""
        return None

    def summary(self) -> str:
        """Return what to log about the predictions so far, once those for a subset are complete; "" for nothing."""
        return ""


class DeclaredPredictions(Predictions):
    """A teacher's predictions, limited to what a method has declared; using more raises UndeclaredNeedError.

    This ensures that a method that works with one teacher works with every teacher that meets its needs.
    """

    def __init__(self, predictions: Predictions, need: Need):
        self._predictions = predictions
        self._need = need

    def predict(self, rows: slice) -> Distribution:
        distribution = self._predictions.predict(rows)
        return TopWordsOnly(distribution, self._need.k) if isinstance(self._need, TopWords) else distribution

    def first_choices(self, chunk_tokens: int = 0) -> Tensor:
        return self._predictions.first_choices(chunk_tokens)

    def decode(self, prev_output_tokens: Tensor) -> "DeclaredPredictions":
        if not self._need.at_new_prefixes:
            raise UndeclaredNeedError(
                "the method uses predictions at new prefixes; declare needs = ...(at_new_prefixes=True)"
            )
        return DeclaredPredictions(self._predictions.decode(prev_output_tokens), self._need)

    @property
    def outputs(self) -> list[ModelOutput]:
        if not isinstance(self._need, HiddenStates):
            raise UndeclaredNeedError("the method uses the teacher's hidden states; declare needs = HiddenStates()")
        return self._predictions.outputs


class EmptyPredictions(Predictions):
    """The predictions of a teacher as if no token counted."""

    def __init__(self, predictions: Predictions):
        self._predictions = predictions

    def predict(self, rows: slice) -> Distribution:
        return self._predictions.predict(slice(0))

    def first_choices(self, chunk_tokens: int = 0) -> Tensor:
        return self.predict(slice(0)).first_choice

    def decode(self, prev_output_tokens: Tensor) -> "EmptyPredictions":
        return EmptyPredictions(self._predictions.decode(prev_output_tokens))

    @property
    def outputs(self) -> list[ModelOutput]:
        return [output.without_tokens() for output in self._predictions.outputs]


class TopWordsOnly(Distribution):
    """A distribution limited to its top k words; using more raises UndeclaredNeedError."""

    def __init__(self, distribution: Distribution, k: int):
        self._distribution = distribution
        self._k = k

    @property
    def vocabulary_size(self) -> int:
        return self._distribution.vocabulary_size

    @property
    def first_choice(self) -> Tensor:
        return self._distribution.first_choice

    @property
    def confidence(self) -> Tensor:
        return self._distribution.confidence

    @property
    def known(self) -> Tensor | None:
        return self._distribution.known

    def divergence(self, student: Logits, temperature: float = 1.0, kind: Divergence = kl_divergence) -> Tensor:
        return self._distribution.divergence(student, temperature, kind)

    def top(self, top_k: int) -> tuple[Tensor, Tensor]:
        self._check(top_k)
        return self._distribution.top(top_k)

    def log_q_of(self, words: Tensor) -> Tensor:
        return self._distribution.log_q_of(words)

    def nll(self, gold: Tensor) -> Tensor:
        return self._distribution.nll(gold)

    def coarse(self, top_k: int) -> TopDistribution:
        self._check(top_k)
        return self._distribution.coarse(top_k)

    def _check(self, top_k: int) -> None:
        if top_k > self._k:
            raise UndeclaredNeedError(
                f"the method uses the teacher's top {top_k} words; declare needs = TopWords({top_k})"
            )
