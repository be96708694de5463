"""Seer forcing (Feng et al., ACL 2021): a decoder that also sees the future target words teaches the student's."""

import copy
from dataclasses import dataclass, replace
from typing import Any, Optional

import torch
from fairseq.criterions import register_criterion
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from omegaconf import II
from torch import Tensor, nn

from nmt_kd.criterions.base import Batch, Chunk, DistillationConfig, DistillationCriterion
from nmt_kd.criterions.config import require_targets_padded_on_the_right
from nmt_kd.criterions.student import another_student
from nmt_kd.engine.models import ModelOutput
from nmt_kd.engine.seeding import seeded
from nmt_kd.errors import UserError
from nmt_kd.options import SHARE, Allowed, option


@dataclass
class SeerForcingConfig(DistillationConfig):
    kd_alpha: float = option(
        0.5, "share of what the seer decoder teaches: (1 - alpha) CE + alpha KD + CE of the seer; from 0 to 1", SHARE
    )
    seer_dropout: Optional[float] = option(
        None,
        "dropout of the seer decoder's layers, from 0 to 1 (default: the student's --dropout)",
        Allowed("from 0 to 1", lambda value: value is None or 0 <= value <= 1),
    )
    seed: int = II("common.seed")


@register_criterion("seer_forcing", dataclass=SeerForcingConfig)
class SeerForcing(DistillationCriterion):
    """`(1 - alpha) CE + alpha KL(seer || student) + CE(seer)`; the seer learns from its own cross-entropy alone.

    The layers of the seer are trained and saved with the criterion; embeddings, encoder and output layer are the
    student's, as in the authors' code. Their weight of the cross-entropy is 1 - alpha here, so their settings are
    --kd-alpha 0.5, and 0.75 for NIST Chinese-English. Their distillation term is a cross-entropy, which has the same
    gradient. Validation runs the student alone.
    """

    any_architecture = False

    def __init__(self, cfg: SeerForcingConfig, task):
        super().__init__(cfg, task)
        student = another_student(cfg, task)
        for half, kind in ((student.encoder, TransformerEncoderBase), (student.decoder, TransformerDecoderBase)):
            if not isinstance(half, kind):
                raise UserError(
                    f"seer_forcing makes a seer of transformer layers, but the student has a {type(half).__name__}; "
                    "choose a method for any architecture, such as r_drop"
                )
        settings = copy.deepcopy(student.decoder.cfg)
        if cfg.seer_dropout is not None:
            settings.dropout = cfg.seer_dropout
        with seeded(cfg.seed):  # the same on all workers, since fairseq's legacy_ddp does not broadcast initial values
            self.seer = Seer(settings)

    def check_settings(self):
        super().check_settings()
        require_targets_padded_on_the_right(self.cfg)

    def passes(self, batch: Batch):
        if not self.training:
            yield batch
            return
        seer = batch.with_decoder(SeerBeside(self.seer, batch.student))
        yield batch.taught_by(seer.student)
        yield replace(seer, auxiliary=True)

    def token_losses(self, chunk: Chunk):
        if not self.training:
            return {}
        if chunk.batch.auxiliary:
            return {"seer_loss": chunk.student.cross_entropy(chunk.gold, self.cfg.label_smoothing)[0]}
        return {"kd_loss": chunk.teacher.divergence(chunk.student)}

    def loss_weights(self, batch: Batch):
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha, "seer_loss": 1.0}


class Seer(nn.Module):
    """Decoder layers for two streams with the same weights, over the past and the future words, joined in the last."""

    def __init__(self, cfg: Any):
        super().__init__()
        self.layers = nn.ModuleList(TransformerDecoderLayerBase(cfg) for _ in range(cfg.decoder.layers - 1))
        self.last = JoiningLayer(cfg)

    def forward(self, embedded: Tensor, padding: Tensor, mask: Tensor, encoder_output: dict) -> Tensor:
        """Return features, [length, batch, width], given the decoder's `embedded` inputs of the same shape.

        `padding` [batch, length] is true for padding, on the right; `mask` [length, length] hides later positions.
        """
        length = embedded.size(0)
        source = encoder_output["encoder_out"][0]
        source_padding = next(iter(encoder_output["encoder_padding_mask"]), None)
        position = torch.arange(length, device=embedded.device).unsqueeze(1)  # [length, 1]
        count = (~padding).sum(1)  # [batch]
        last_first = torch.where(position < count, count - 1 - position, position)  # [length, batch]
        past, future = embedded, _rows(embedded, last_first)
        for layer in self.layers:
            past, future = (
                layer(x, source, source_padding, self_attn_mask=mask, self_attn_padding_mask=padding)[0]
                for x in (past, future)
            )
        # The input at a position is the word before the one to predict, so the future begins two positions later.
        first_seen = count - 3 - position
        shifted = (first_seen.clamp(min=0), (first_seen >= 0).unsqueeze(-1))
        return self.last(past, future, shifted, mask, padding, source, source_padding)


class JoiningLayer(TransformerDecoderLayerBase):
    """A decoder layer that joins both streams by a linear layer between self-attention and cross-attention."""

    def __init__(self, cfg: Any):
        super().__init__(cfg)
        self.join = nn.Linear(2 * self.embed_dim, self.embed_dim)
        nn.init.xavier_uniform_(self.join.weight)
        nn.init.zeros_(self.join.bias)

    def forward(self, past, future, shifted, mask, padding, source, source_padding):
        """Return the features of both streams, [length, batch, width]; see `Seer.forward`.

        `shifted` are indices [length, batch] into the future, and whether there is any, [length, batch, 1].
        """

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, key_padding_mask=padding, attn_mask=mask, need_weights=False)[0]

        def attend_to_source(x: Tensor) -> Tensor:
            return self.encoder_attn(
                x, source, source, key_padding_mask=source_padding, static_kv=True, need_weights=False
            )[0]

        def feed_forward(x: Tensor) -> Tensor:
            return self.fc2(self.activation_dropout_module(self.activation_fn(self.fc1(x))))

        past, future = (self._sublayer(x, attend, self.self_attn_layer_norm) for x in (past, future))
        index, exists = shifted
        x = self.join(torch.cat([past, _rows(future, index) * exists], dim=-1))
        x = self._sublayer(x, attend_to_source, self.encoder_attn_layer_norm)
        return self._sublayer(x, feed_forward, self.final_layer_norm)

    def _sublayer(self, x: Tensor, function, norm) -> Tensor:
        changed = x + self.dropout_module(function(norm(x) if self.normalize_before else x))
        return changed if self.normalize_before else norm(changed)


@dataclass(frozen=True)
class SeerBeside:
    """A seer in place of the student's decoder, with the embedded inputs and the output layer of the latter."""

    seer: Seer
    student: ModelOutput

    @property
    def decoder(self) -> TransformerDecoderBase:
        """The student's decoder."""
        return self.student.model.decoder

    @property
    def output_projection(self) -> nn.Linear:
        """The student's output layer."""
        return self.decoder.output_projection

    def __call__(self, prev_output_tokens: Tensor, encoder_out: Any) -> tuple[Tensor, dict]:
        embedded, decoder = self.student.decoder_states[0], self.decoder
        padding = prev_output_tokens.eq(decoder.padding_idx)
        features = self.seer(embedded, padding, decoder.buffered_future_mask(embedded), encoder_out)
        if decoder.layer_norm is not None:
            features = decoder.layer_norm(features)
        features = features.transpose(0, 1)
        if decoder.project_out_dim is not None:
            features = decoder.project_out_dim(features)
        return decoder.output_layer(features), {}


def _rows(states: Tensor, index: Tensor) -> Tensor:
    """Return the states [length, batch, width] at other positions, given their indices [length, batch]."""
    return states.gather(0, index.unsqueeze(-1).expand_as(states))
