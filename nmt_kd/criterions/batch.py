"""The batch that methods work on: its target tokens without padding, the models' outputs, and chunks of both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from nmt_kd.engine import chunks
from nmt_kd.engine.chunks import Projection, gold_nll
from nmt_kd.engine.distribution import Distribution, WholeDistribution
from nmt_kd.engine.models import ModelOutput
from nmt_kd.engine.predictions import EmptyPredictions, Predictions, UndeclaredNeedError
from nmt_kd.engine.teacher import ModelPredictions
from nmt_kd.losses.logits import Logits


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One view of a batch: its target tokens without padding, in one list, and the models' outputs for them.

    Methods make further views of a batch: other decoder inputs, another decoder, another teacher.
    """

    gold: Tensor  # [tokens], the gold tokens
    token_index: Tensor  # [tokens], the position of each in the flattened [batch * length] target
    sentence_ids: Tensor  # [batch], the sentences' numbers in the data set
    source_tokens: Tensor  # [batch, source length]
    prev_output_tokens: Tensor  # [batch, length], the decoder inputs
    student: ModelOutput
    teacher: Predictions | None = None  # its models run when they are first used
    peers: tuple[ModelOutput, ...] = ()  # outputs whose logits each chunk also has, with gradients
    is_reference: bool = True  # whether the gold tokens are those of the data; False if `prepare` replaced them
    auxiliary: bool = False  # without cross-entropy and accuracy: only the method's own terms are computed
    notes: dict[str, Tensor] = field(default_factory=dict)  # [tokens] each, filled in by `Chunk.note`
    chunk_tokens: int = 0  # --kd-chunk-tokens

    # -- further views ------------------------------------------------------------------------------------------------

    def decode(self, prev_output_tokens: Tensor) -> "Batch":
        """Return a view of the same tokens with other decoder inputs [batch, length] for both models.

        The encoders do not run again; dropout in the student's decoder is fresh.
        """
        return replace(
            self,
            prev_output_tokens=prev_output_tokens,
            student=self.student.decode(prev_output_tokens),
            teacher=self.teacher and self.teacher.decode(prev_output_tokens),
        )

    def with_decoder(self, decoder: Callable[..., Any], prev_output_tokens: Tensor | None = None) -> "Batch":
        """Return a view of the same tokens through another decoder, which reads the student's encoder output."""
        inputs = self.prev_output_tokens if prev_output_tokens is None else prev_output_tokens
        return replace(self, prev_output_tokens=inputs, student=self.student.decode(inputs, decoder))

    def with_peer(self, peer: ModelOutput) -> "Batch":
        """Return a view of the same tokens with another output besides the student's, both with gradients."""
        return replace(self, peers=(*self.peers, peer))

    def taught_by(self, output: ModelOutput) -> "Batch":
        """Return a view of the same tokens with the predictions of `output`, without gradients, as the teacher's."""
        return replace(self, teacher=ModelPredictions(lambda: [output]))

    def without_tokens(self) -> "Batch":
        """Return the batch as if none of its target tokens counted."""
        return replace(
            self,
            gold=self.gold[:0],
            token_index=self.token_index[:0],
            student=self.student.without_tokens(),
            teacher=self.teacher and EmptyPredictions(self.teacher),
        )

    # -- what methods use ---------------------------------------------------------------------------------------------

    @cached_property
    def student_nll(self) -> Tensor:
        """The student's plain negative log-likelihood of each gold token, [tokens], in nats, without gradients."""
        return gold_nll(self.student.projection, self.gold, self.chunk_tokens)

    @property
    def teacher_first_choices(self) -> Tensor:
        """The teacher's most probable word at each token, [tokens]."""
        if self.teacher is None:
            raise UndeclaredNeedError("the method uses a teacher; declare needs = TopWords(1)")
        return self.teacher.first_choices(self.chunk_tokens)

    # -- for SummedLoss -----------------------------------------------------------------------------------------------

    @property
    def projections(self) -> list[Projection]:
        """The projections of the student and of its peers, from which a chunk's logits are computed."""
        return [output.projection for output in (self.student, *self.peers)]

    def chunk(self, rows: slice, logits: Sequence[Logits]) -> "Chunk":
        """Return the chunk of the tokens in `rows` with these logits, [rows, V] each."""
        return Chunk(self, rows, logits)


class Chunk(chunks.Chunk):
    """Some tokens of a batch and the models' predictions for them, which are computed when they are first used."""

    def __init__(self, batch: Batch, rows: slice, logits: Sequence[Logits]):
        super().__init__(rows, logits)
        self.batch = batch

    @property
    def gold(self) -> Tensor:
        """The gold tokens, [tokens]."""
        return self.batch.gold[self.rows]

    @property
    def student(self) -> Logits:
        """The student's logits, and what losses need of them."""
        return self.logits[0]

    @property
    def student_logits(self) -> Tensor:
        """The student's logits, [tokens, V], with gradients in training."""
        return self.student.values

    @property
    def student_log_p(self) -> Tensor:
        """The student's log-probabilities, [tokens, V], float32 or float64, with gradients in training."""
        return self.student.log_p

    @property
    def peers(self) -> Sequence[Logits]:
        """The logits of each of the batch's peers, like the student's."""
        return self.logits[1:]

    @cached_property
    def teacher(self) -> Distribution:
        """The teacher's distributions at the chunk's tokens."""
        if self.batch.teacher is None:
            raise UndeclaredNeedError("the method uses a teacher; declare needs = TopWords(k) or FullDistribution()")
        return self.batch.teacher.predict(self.rows)

    @property
    def teacher_logits(self) -> Tensor:
        """The teacher's logits, [tokens, V], without gradients; needs = FullDistribution()."""
        return self._whole.logits

    @property
    def teacher_log_q(self) -> Tensor:
        """The teacher's log-probabilities, [tokens, V], float32 or float64; needs = FullDistribution()."""
        return self._whole.log_q

    @property
    def _whole(self) -> WholeDistribution:
        if not isinstance(self.teacher, WholeDistribution):
            raise UndeclaredNeedError(
                "the method uses the teacher's full distribution; declare needs = FullDistribution()"
            )
        return self.teacher

    @property
    def teacher_was_used(self) -> bool:
        """Whether the teacher's predictions have been computed."""
        return "teacher" in vars(self)

    def note(self, name: str, values: Tensor) -> None:
        """Write `values` [tokens] into the tensor `name` of the batch's notes, at the chunk's tokens."""
        self.batch.notes[name][self.rows] = values
