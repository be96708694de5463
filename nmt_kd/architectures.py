"""Architectures from the papers that fairseq lacks: deep post-norm transformers with Admin initialisation.

Admin was introduced by Liu et al., "Understanding the Difficulty of Training Transformers" (EMNLP 2020), and used to
train encoders of 18 and more layers by Liu et al., "Very Deep Transformers for Neural Machine Translation" (2020). Deep
pre-norm transformers need none of this: `--arch transformer_wmt_en_de_big_t2t --encoder-layers 18`.
"""

import math
from contextlib import ExitStack, contextmanager

import torch
from fairseq.data import Dictionary
from fairseq.distributed import fsdp_wrap
from fairseq.models import FairseqEncoderDecoderModel, register_model, register_model_architecture
from fairseq.models.transformer import (
    TransformerConfig,
    TransformerDecoderBase,
    TransformerEncoderBase,
    TransformerModel,
    base_architecture,
    transformer_wmt_en_de_big,
)
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase, TransformerEncoderLayerBase
from torch import Tensor, nn

from nmt_kd.engine.seeding import seeded
from nmt_kd.errors import UserError

PROFILED_SENTENCES, PROFILED_LENGTH = 4, 32  # lengths from 8 to 64 change the omegas by at most 10 %
PROFILING_SEED = 1

# ---------------------------------------------------------------------------------------------------------------------
# Profiling
# ---------------------------------------------------------------------------------------------------------------------


def profile(model: FairseqEncoderDecoderModel, net_input: dict[str, Tensor]) -> None:
    """Set every omega of `model` from one forward pass over fairseq's `net_input` in which all omegas are 1.

    In Admin, omega_i = sqrt(sum over j < i of Var[f_j(x_{j-1})]), separately for encoder and decoder. The sum starts
    with the embeddings x_0, whose variance counts as 1, so omega_1 = 1. The shortcut of sub-layer i is weighted by the
    standard deviation that everything added before it would have if it were independent. The variance is taken over all
    elements of a sub-layer's output, [length, batch, width], with dropout and padding.
    """
    halves = [
        [layer for layer in half.modules() if isinstance(layer, AdminLayer)] for half in (model.encoder, model.decoder)
    ]
    with torch.no_grad(), ExitStack() as stack:
        variances = {layer: stack.enter_context(_recorded_variances(layer)) for layers in halves for layer in layers}
        model(**net_input, features_only=True)
    for layers in halves:
        total = 1.0
        for layer in layers:
            for omega, variance in zip(layer.omegas, variances[layer], strict=True):
                nn.init.constant_(omega, math.sqrt(total))
                total += variance


@contextmanager
def _recorded_variances(layer: "AdminLayer"):
    """Run `layer` with omegas of 1 inside the block; yield a list that receives the variance of each sub-layer."""
    layer.variances = []
    try:
        yield layer.variances
    finally:
        layer.variances = None


def random_batch(
    model: FairseqEncoderDecoderModel, source_dictionary: Dictionary, target_dictionary: Dictionary
) -> dict[str, Tensor]:
    """Return a batch of random symbols, [4, 32] on both sides, identical for every worker and in every run.

    It replaces a batch of training data, which is not available yet when a model is built and would differ between
    workers. The variances of an untrained model hardly depend on the content of the sentences.
    """
    generator = torch.Generator().manual_seed(PROFILING_SEED)

    def sentences(dictionary: Dictionary, longest: int) -> Tensor:
        size = PROFILED_SENTENCES, min(PROFILED_LENGTH, longest)
        return torch.randint(dictionary.nspecial, len(dictionary), size, generator=generator, device="cpu")

    longest_source, longest_target = model.max_positions()
    source = sentences(source_dictionary, longest_source)
    return {
        "src_tokens": source,
        "src_lengths": torch.full(source.shape[:1], source.size(1)),
        "prev_output_tokens": sentences(target_dictionary, longest_target),
    }


def profile_on_random_batch(
    model: FairseqEncoderDecoderModel, source_dictionary: Dictionary, target_dictionary: Dictionary
) -> None:
    """Profile a new model on the CPU with a random batch, without changing torch's random state."""
    net_input = random_batch(model, source_dictionary, target_dictionary)
    with seeded(PROFILING_SEED):  # for dropout
        profile(model, net_input)


# ---------------------------------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------------------------------


class AdminLayer(nn.Module):
    """Turns a post-norm layer of fairseq into an Admin layer: x_i = LayerNorm(x_{i-1} * omega_i + f_i(x_{i-1})).

    `omegas` has a vector [width] for each sub-layer, in the order self-attention, encoder attention (decoder layers
    only), feed-forward. While profiling, `variances` collects the variance of each sub-layer's output.
    """

    embed_dim: int
    variances: list[float] | None = None

    def _add_omegas(self, number: int) -> None:
        self.omegas = nn.ParameterList([nn.Parameter(torch.ones(self.embed_dim)) for _ in range(number)])
        self.sublayer = 0

    def forward(self, *args, **kwargs):
        self.sublayer = 0
        return super().forward(*args, **kwargs)

    def residual_connection(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return `residual * omega + x`, of the same shape as both; fairseq calls this once per sub-layer.

        `x` is f_i(x_{i-1}) and `residual` is x_{i-1}. While profiling, omega is 1.
        """
        if self.variances is not None:
            self.variances.append(x.float().var(unbiased=False).item())
            return residual + x
        omega = self.omegas[self.sublayer]
        self.sublayer += 1
        return residual * omega + x


class AdminEncoderLayer(AdminLayer, TransformerEncoderLayerBase):
    def __init__(self, cfg: TransformerConfig, return_fc: bool = False):
        super().__init__(cfg, return_fc)
        self._add_omegas(2)


class AdminDecoderLayer(AdminLayer, TransformerDecoderLayerBase):
    def __init__(self, cfg: TransformerConfig, no_encoder_attn: bool = False):
        super().__init__(cfg, no_encoder_attn)
        self._add_omegas(2 if no_encoder_attn else 3)


class AdminEncoder(TransformerEncoderBase):
    def build_encoder_layer(self, cfg: TransformerConfig) -> nn.Module:
        return _wrapped(AdminEncoderLayer(cfg, self.return_fc), cfg)


class AdminDecoder(TransformerDecoderBase):
    def build_decoder_layer(self, cfg: TransformerConfig, no_encoder_attn: bool = False) -> nn.Module:
        return _wrapped(AdminDecoderLayer(cfg, no_encoder_attn), cfg)


def _wrapped(layer: nn.Module, cfg: TransformerConfig) -> nn.Module:
    """Wrap a layer for activation checkpointing and FSDP, as fairseq's encoder and decoder do."""
    if cfg.checkpoint_activations:
        layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
    return fsdp_wrap(layer, min_num_params=0 if cfg.checkpoint_activations else cfg.min_params_to_wrap)


@register_model("transformer_admin")
class AdminTransformer(TransformerModel):
    """fairseq's post-norm transformer with a weight omega on every shortcut, which makes deep models trainable.

    The model is profiled whenever it is built, because fairseq does not tell whether it will be trained or loaded from
    a checkpoint. A checkpoint's omegas then replace the profiled ones. Profiling a big model takes about a second.
    """

    @classmethod
    def build_model(cls, args, task) -> "AdminTransformer":
        _check_settings(args)
        model = super().build_model(args, task)
        if not next(model.parameters()).is_meta:  # a meta model has no values to profile
            profile_on_random_batch(model, task.source_dictionary, task.target_dictionary)
        return model

    @classmethod
    def build_encoder(cls, args, src_dict: Dictionary, embed_tokens: nn.Embedding) -> AdminEncoder:
        return AdminEncoder(TransformerConfig.from_namespace(args), src_dict, embed_tokens)

    @classmethod
    def build_decoder(cls, args, tgt_dict: Dictionary, embed_tokens: nn.Embedding) -> AdminDecoder:
        cfg = TransformerConfig.from_namespace(args)
        return AdminDecoder(cfg, tgt_dict, embed_tokens, no_encoder_attn=cfg.no_cross_attention)


def _check_settings(args) -> None:
    for half in ("encoder", "decoder"):
        if getattr(args, f"{half}_normalize_before", False):
            raise UserError(
                f"--{half}-normalize-before does not work with Admin, which is for post-norm models; leave it out, or "
                "train a deep pre-norm model with --arch transformer_wmt_en_de_big_t2t --encoder-layers 18"
            )
        if getattr(args, f"{half}_layerdrop", 0):
            raise UserError(
                f"--{half}-layerdrop does not work with Admin, whose weights assume that all layers run; leave it out"
            )


register_model_architecture("transformer_admin", "transformer_admin")(base_architecture)


@register_model_architecture("transformer_admin", "transformer_wmt_en_de_big_18l_admin")
def transformer_wmt_en_de_big_18l_admin(args) -> None:
    """Set up the TIE-KD paper's stronger teacher (Zhang et al., 2023): big, with 18 encoder and 6 decoder layers."""
    args.encoder_layers = getattr(args, "encoder_layers", 18)
    transformer_wmt_en_de_big(args)
