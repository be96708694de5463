"""A batch as methods see it: its non-padding target tokens, what the models say about them, and chunks of both."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor, nn

from nmt_kd.engine import chunks
from nmt_kd.engine.chunks import Projection, per_token
from nmt_kd.engine.distribution import Distribution, WholeDistribution
from nmt_kd.engine.models import ModelOutput
from nmt_kd.engine.predictions import EmptyPredictions, Predictions, UndeclaredNeedError
from nmt_kd.engine.teacher import ModelPredictions
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.precision import log_probabilities


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One view of a batch: its non-padding target tokens in one list, and the models' output for them.

    Methods make further views of a batch: other decoder inputs, another decoder, another teacher.
    """

    gold: Tensor  # [tokens], the target tokens
    token_index: Tensor  # [tokens], the position of each in the flattened [batch * length] target
    sentence_ids: Tensor  # [batch], the sentences' numbers in the data set
    source_tokens: Tensor  # [batch, source length]
    prev_output_tokens: Tensor  # [batch, length], the decoder inputs
    student: ModelOutput
    teacher: Predictions | None = None  # models run when they are first asked for
    peers: tuple[ModelOutput, ...] = ()  # outputs whose logits a chunk has beside the student's, with gradients
    is_reference: bool = True  # the gold tokens are the data's own, not what `prepare` put in their place
    auxiliary: bool = False  # a further view, without cross-entropy; of its terms alone is logged
    notes: dict[str, Tensor] = field(default_factory=dict)  # [tokens] each, filled in by `Chunk.note`
    chunk_tokens: int = 0  # --kd-chunk-tokens

    # -- further views ------------------------------------------------------------------------------------------------

    def decode(self, prev_output_tokens: Tensor) -> "Batch":
        """View the same tokens with other decoder inputs [batch, length] for both models.

        The encoders do not run again; the student's decoder has fresh dropout.
        """
        return replace(
            self,
            prev_output_tokens=prev_output_tokens,
            student=self.student.decode(prev_output_tokens),
            teacher=self.teacher and self.teacher.decode(prev_output_tokens),
        )

    def with_decoder(self, decoder: nn.Module, prev_output_tokens: Tensor | None = None) -> "Batch":
        """View the same tokens through another decoder, on the output of the student's encoder."""
        inputs = self.prev_output_tokens if prev_output_tokens is None else prev_output_tokens
        return replace(self, prev_output_tokens=inputs, student=self.student.decode(inputs, decoder))

    def with_peer(self, peer: ModelOutput) -> "Batch":
        """View the same tokens with another output beside the student's, both with gradients."""
        return replace(self, peers=(*self.peers, peer))

    def taught_by(self, output: ModelOutput) -> "Batch":
        """View the same tokens with the predictions of `output`, without gradients, as the teacher's."""
        return replace(self, teacher=ModelPredictions(lambda: [output]))

    def without_tokens(self) -> "Batch":
        """The same batch as if all of it were padding."""
        none = slice(0)
        projection = replace(self.student.projection, features=self.student.projection.features[none])
        student = replace(self.student, token_index=self.token_index[none], projection=projection)
        teacher = self.teacher and EmptyPredictions(self.teacher)
        return replace(self, gold=self.gold[none], token_index=self.token_index[none], student=student, teacher=teacher)

    # -- what methods ask for -----------------------------------------------------------------------------------------

    @cached_property
    def student_nll(self) -> Tensor:
        """The student's plain negative log-likelihood of each gold token, [tokens], in nats, without gradients."""

        def nll(logits: Tensor, rows: slice) -> Tensor:
            return label_smoothed_cross_entropy(log_probabilities(logits), self.gold[rows], 0.0)[1]

        projection = self.student.projection
        return per_token(projection.logits, projection, nll, self.chunk_tokens)

    @property
    def teacher_first_choices(self) -> Tensor:
        """The teacher's most probable word at each token, [tokens]."""
        if self.teacher is None:
            raise UndeclaredNeedError("the method reads a teacher without declaring needs")
        return self.teacher.first_choices(self.chunk_tokens)

    # -- for SummedLoss -----------------------------------------------------------------------------------------------

    @property
    def projections(self) -> list[Projection]:
        """What a chunk's logits are computed from."""
        return [output.projection for output in (self.student, *self.peers)]

    def chunk(self, rows: slice, logits: Sequence[Tensor]) -> "Chunk":
        """The tokens in `rows` with these logits."""
        return Chunk(self, rows, logits)


class Chunk(chunks.Chunk):
    """Some tokens of a batch, with what the models predict; computed when first asked for."""

    def __init__(self, batch: Batch, rows: slice, logits: Sequence[Tensor]):
        super().__init__(rows, logits)
        self.batch = batch

    @property
    def gold(self) -> Tensor:
        """The target tokens, [tokens]."""
        return self.batch.gold[self.rows]

    @property
    def student_logits(self) -> Tensor:
        """The student's logits, [tokens, V], with gradients in training."""
        return self.logits[0]

    @cached_property
    def student_log_p(self) -> Tensor:
        """The student's log-probabilities, [tokens, V], float32 or float64, with gradients in training."""
        return log_probabilities(self.student_logits)

    @cached_property
    def peers_log_p(self) -> list[Tensor]:
        """The same of each of the batch's peers."""
        return [log_probabilities(logits) for logits in self.logits[1:]]

    @cached_property
    def teacher(self) -> Distribution:
        """The teacher's predictions."""
        if self.batch.teacher is None:
            raise UndeclaredNeedError("the method reads a teacher without declaring needs")
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
            raise UndeclaredNeedError("all of the teacher's distribution is used; declare needs = FullDistribution()")
        return self.teacher

    @property
    def teacher_was_read(self) -> bool:
        """Whether anything has asked for the teacher's predictions."""
        return "teacher" in vars(self)

    def note(self, name: str, values: Tensor) -> None:
        """Keep `values` [tokens] in the batch's notes of that name."""
        self.batch.notes[name][self.rows] = values
