"""CKD and PKD (Wu et al., EMNLP 2020): hidden layers of the student learn from combinations of the teacher's."""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import cast

import torch
from fairseq.criterions import register_criterion
from fairseq.logging import metrics
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from omegaconf import II
from torch import Tensor, nn

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, TeacherConfig
from nmt_kd.criterions.student import another_student
from nmt_kd.engine.models import ModelOutput
from nmt_kd.engine.predictions import HiddenStates
from nmt_kd.engine.seeding import seeded
from nmt_kd.errors import UserError
from nmt_kd.losses.hidden import attention_error, student_up_error, teacher_down_error
from nmt_kd.losses.layer_map import LAYER_MAPS, LayerMap, layer_map
from nmt_kd.options import AT_LEAST_0, SHARE, one_of, option, require


@dataclass
class CKDConfig(TeacherConfig):
    kd_alpha: float = option(
        0.1,
        "weight of the divergence, the paper's eta: loss = (1 - alpha - lambda) CE + alpha KD + lambda hidden; "
        "from 0 to 1",
        SHARE,
    )
    ckd_lambda: float = option(0.7, "weight of the hidden layers' loss, from 0 to 1 - alpha; 0 leaves it out", SHARE)
    ckd_layers: str = option(
        "rc",
        "which of the teacher's encoder layers each student layer learns from: "
        f"{', '.join(LAYER_MAPS)}, or an explicit map, such as '1,2,3;4,5,6' for a student of two layers",
    )
    ckd_decoder_layers: str = option(
        "", "the same for the decoder; empty (default) leaves the decoder out, as the paper advises"
    )
    ckd_fusion: str = option(
        "student-up",
        "'student-up' projects the student to the width of the concatenated teacher layers and compares directions "
        "(the published results), 'teacher-down' projects these to the student's width and takes the squared error",
        one_of("student-up", "teacher-down"),
    )
    ckd_attention: float = option(
        0.0,
        "weight, within the hidden layers' loss, of the squared error between the self-attention scores of each "
        "encoder layer and of the last teacher layer in its map; 0 leaves them out",
        AT_LEAST_0,
    )
    seed: int = II("common.seed")


class HiddenMatch(nn.Module):
    """The projections and the loss of the layers of one side, encoder or decoder."""

    def __init__(self, layers: LayerMap, student_width: int, teacher_width: int, fusion: str, seed: int):
        super().__init__()
        self.layers = layers
        self.student_up = fusion == "student-up"
        widths = [len(group) * teacher_width for group in layers]
        with seeded(seed):  # the same on all workers, since fairseq's legacy_ddp does not broadcast initial values
            self.projections = nn.ModuleList(
                nn.Identity()
                if len(group) == 1 and width == student_width
                else nn.Linear(*((student_width, width) if self.student_up else (width, student_width)))
                for group, width in zip(layers, widths, strict=True)
            )

    def forward(self, student: list[Tensor], teacher: list[Tensor], index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return losses, and norms of both models' states in the common width, each [tokens], summed over the layers.

        `student` and `teacher` are fairseq's states, the embeddings first, [length, batch, width] each; `index`
        [tokens] contains the positions of the tokens in the flattened [batch * length].
        """

        def tokens(states: Tensor) -> Tensor:
            return states.transpose(0, 1).flatten(0, 1).index_select(0, index)

        losses, student_norms, teacher_norms = [], [], []
        for number, (group, project) in enumerate(zip(self.layers, self.projections, strict=True), start=1):
            ours = tokens(student[number])
            theirs = torch.cat([tokens(teacher[layer]) for layer in group], dim=-1)
            if self.student_up:
                ours = project(ours)
                losses.append(student_up_error(ours, theirs))
            else:
                theirs = project(theirs)
                losses.append(teacher_down_error(ours, theirs))
            student_norms.append(ours.detach().float().norm(dim=-1))
            teacher_norms.append(theirs.detach().float().norm(dim=-1))
        return reduce(add, losses), reduce(add, student_norms), reduce(add, teacher_norms)


@register_criterion("ckd", dataclass=CKDConfig)
class CKD(DistillationCriterion):
    """`(1 - alpha - lambda) CE + alpha KL + lambda hidden`; with lambda = 0 it is `word_kd` (the paper's RKD).

    The hidden layers' loss is summed over non-padding source tokens (target tokens for the decoder) and over layers.
    States are taken as fairseq returns them: normalised in post-norm models, the raw residual stream in pre-norm ones.
    The projections are trained and saved with the student, but are not part of its model.
    """

    any_architecture = False
    needs = HiddenStates()

    def __init__(self, cfg: CKDConfig, task):
        super().__init__(cfg, task)
        self.matches = nn.ModuleDict()
        if cfg.ckd_lambda == 0:
            return
        student, teacher = another_student(cfg, task), self._only_teacher()
        self._check_transformers(student, teacher)
        for side, maps in (("encoder", cfg.ckd_layers), ("decoder", cfg.ckd_decoder_layers)):
            if maps:
                self.matches[side] = self._match(side, maps, getattr(student, side), getattr(teacher, side))
        if cfg.ckd_attention:
            self._check_heads(student.encoder, teacher.encoder)

    # -- what is compared ---------------------------------------------------------------------------------------------

    def _only_teacher(self) -> FairseqEncoderDecoderModel:
        models = self.teacher.models if self.teacher is not None else []
        if len(models) != 1:
            raise UserError("ckd compares layers with a single teacher; give one checkpoint with --teacher-path")
        return models[0]

    @staticmethod
    def _check_transformers(student: FairseqEncoderDecoderModel, teacher: FairseqEncoderDecoderModel) -> None:
        for role, model in (("student", student), ("teacher", teacher)):
            for half, kind in ((model.encoder, TransformerEncoderBase), (model.decoder, TransformerDecoderBase)):
                if not isinstance(half, kind):
                    raise UserError(
                        f"ckd compares transformer layers, but the {role} has a {type(half).__name__}; "
                        "choose a method that only needs predictions, such as word_kd"
                    )
        for name in ("encoder", "decoder"):
            if getattr(getattr(student, name), f"{name}_layerdrop", 0) > 0:
                raise UserError(f"ckd needs all layers of the student at every update; remove --{name}-layerdrop")

    def _match(
        self, side: str, maps: str, student: TransformerEncoderBase, teacher: TransformerEncoderBase
    ) -> HiddenMatch:
        flag = "--ckd-layers" if side == "encoder" else "--ckd-decoder-layers"
        try:
            layers = layer_map(maps, len(teacher.layers), len(student.layers))
        except ValueError as error:
            raise UserError(f"{flag}: {error}") from None
        return HiddenMatch(layers, _width(student), _width(teacher), self.cfg.ckd_fusion, self.cfg.seed)

    @staticmethod
    def _check_heads(student: TransformerEncoderBase, teacher: TransformerEncoderBase) -> None:
        ours, theirs = (model.layers[0].self_attn.num_heads for model in (student, teacher))
        require(ours == theirs, "--encoder-attention-heads", ours, f"{theirs} like the teacher's, for --ckd-attention")

    def check_settings(self):
        super().check_settings()
        alpha, share = self.cfg.kd_alpha, self.cfg.ckd_lambda
        require(bool(self.cfg.ckd_layers) or share == 0, "--ckd-layers", "empty", "a map, unless --ckd-lambda is 0")
        require(alpha + share <= 1, "--ckd-lambda", share, f"at most 1 - alpha, with --kd-alpha {alpha}")

    # -- one batch ----------------------------------------------------------------------------------------------------

    def token_losses(self, chunk: Chunk):
        return {"kd_loss": chunk.teacher.divergence(chunk.student)}

    def loss_weights(self, batch: Batch):
        weight = self.cfg.ckd_lambda
        return {
            "ce_loss": 1 - self.cfg.kd_alpha - weight,
            "kd_loss": self.cfg.kd_alpha,
            "hidden_loss": weight,
            "attention_loss": weight * self.cfg.ckd_attention,
        }

    def batch_losses(self, batch: Batch):
        # fairseq-validate does not restore the criterion, so its projections are untrained
        are_trained = self.training or self.progress.updates > 0
        if batch.teacher is None or not self.matches or not are_trained:
            return {}
        (teacher,) = batch.teacher.outputs
        is_padding = batch.source_tokens.eq(self.task.source_dictionary.pad())
        source_index = (~is_padding).flatten().nonzero().squeeze(1)
        encoder = cast(HiddenMatch, self.matches["encoder"])
        hidden, student_norm, teacher_norm = (
            values.sum() for values in encoder(batch.student.encoder_states, teacher.encoder_states, source_index)
        )
        if "decoder" in self.matches:
            losses, _, _ = self.matches["decoder"](
                batch.student.decoder_states, teacher.decoder_states, batch.token_index
            )
            hidden = hidden + losses.sum()
        terms = {"hidden_loss": hidden, "student_norm": student_norm, "teacher_norm": teacher_norm}
        terms["n_states"] = source_index.new_full((), source_index.numel() * len(encoder.layers))
        if self.cfg.ckd_attention:
            terms["attention_loss"] = self._attention_loss(encoder.layers, batch.student, teacher, is_padding)
        return terms

    @staticmethod
    def _attention_loss(layers: LayerMap, student: ModelOutput, teacher: ModelOutput, is_padding: Tensor) -> Tensor:
        total = torch.zeros((), device=is_padding.device)
        for number, group in enumerate(layers, start=1):
            ours, theirs = (
                self_attention_scores(output.model.encoder.layers[layer - 1], output.encoder_states[layer - 1])
                for output, layer in ((student, number), (teacher, group[-1]))
            )
            total = total + attention_error(ours, theirs, is_padding).masked_fill(is_padding, 0).sum()
        return total

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        super().reduce_metrics(logging_outputs)
        states = sum(log.get("n_states", 0) for log in logging_outputs)
        if states > 0:
            for name in ("student_norm", "teacher_norm"):
                metrics.log_scalar(name, sum(log[name] for log in logging_outputs) / states, states, round=3)


def self_attention_scores(layer: TransformerEncoderLayerBase, layer_input: Tensor) -> Tensor:
    """Return the self-attention scores of an encoder layer before the softmax, [batch, heads, queries, keys].

    `layer_input` is the input of the layer, [length, batch, width].
    """
    states = layer.self_attn_layer_norm(layer_input) if layer.normalize_before else layer_input
    attention = layer.self_attn

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.num_heads, -1)).permute(1, 2, 0, 3)

    query = heads(attention.q_proj(states) * attention.scaling)
    return query @ heads(attention.k_proj(states)).transpose(-1, -2)


def _width(half: TransformerEncoderBase | TransformerDecoderBase) -> int:
    return half.layers[0].embed_dim
