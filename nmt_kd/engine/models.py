"""Run a fairseq encoder-decoder model up to its output projection."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from fairseq.models import BaseFairseqModel
from fairseq.models.nat.fairseq_nat_model import FairseqNATDecoder
from fairseq.models.transformer import TransformerEncoder, TransformerEncoderBase
from torch import Tensor, nn

from nmt_kd.engine.chunks import Projection
from nmt_kd.errors import UserError

# The names of the last linear layer in fairseq's decoders (transformer, LSTM, convolutional).
OUTPUT_PROJECTIONS = ("output_projection", "fc_out", "fc3")


def target_token_index(target: Tensor, padding_index: int, ignore_prefix_size: int = 0) -> Tensor:
    """Return the positions of the tokens that count, [tokens], in the flattened `target` [batch, length].

    Padding does not count, nor do the first `ignore_prefix_size` tokens of each sentence.
    """
    counts = target.ne(padding_index)
    counts[:, :ignore_prefix_size] = False
    return counts.flatten().nonzero().squeeze(1)


@dataclass(frozen=True)
class ModelOutput:
    """A model's output for some target tokens, and what it takes to run the model or its decoder again."""

    model: BaseFairseqModel
    net_input: dict[str, Tensor]  # from fairseq's sample
    token_index: Tensor  # [tokens], positions in the flattened [batch * length] target
    projection: Projection
    encoder_output: Any  # whatever the encoder returned
    decoder_extra: Any  # what the decoder returned besides its features

    @property
    def encoder_states(self) -> list[Tensor]:
        """The embeddings and the output of each encoder layer, [source length, batch, width] each (transformers)."""
        return self.encoder_output["encoder_states"]

    @property
    def decoder_states(self) -> list[Tensor]:
        """The embeddings and the output of each decoder layer, [target length, batch, width] each (transformers)."""
        return self.decoder_extra["inner_states"]

    def decode(self, prev_output_tokens: Tensor, decoder: Callable[..., Any] | None = None) -> "ModelOutput":
        """Run the decoder, or another one, on `prev_output_tokens` [batch, length]; the encoder does not run again."""
        decoder = self.model.decoder if decoder is None else decoder
        layer = _output_projection(decoder)
        with _passing_through(layer):
            output, extra = decoder(prev_output_tokens, encoder_out=self.encoder_output)[:2]
        projection = _select(output, self.token_index, layer)
        net_input = {**self.net_input, "prev_output_tokens": prev_output_tokens}
        return replace(self, net_input=net_input, projection=projection, decoder_extra=extra)

    def run_again(self) -> "ModelOutput":
        """Run the whole model again on the same input, in training with fresh dropout."""
        return run_model(self.model, self.net_input, self.token_index)

    def without_tokens(self) -> "ModelOutput":
        """Return the output as if no token counted; the states of encoder and decoder stay."""
        projection = replace(self.projection, features=self.projection.features[:0])
        return replace(self, token_index=self.token_index[:0], projection=projection)


def run_model(model: BaseFairseqModel, net_input: dict[str, Tensor], token_index: Tensor) -> ModelOutput:
    """Run `model` once and return its output for some target tokens: features, and the projection to logits.

    `net_input` is from fairseq's sample; `token_index` [tokens] contains positions in the flattened [batch * length]
    target. The whole model is called, so that a wrapper for several workers can synchronise gradients; only
    `ModelOutput.decode` calls a decoder alone, on the encoder output of that call. If the model does not end in a
    linear layer (such as a fairseq LSTM with shared embeddings), its logits take the place of the features.

    Raises UserError for a model with an adaptive softmax, whose outputs are not a distribution over the vocabulary, and
    for one that does not predict word by word.
    """
    if isinstance(model.decoder, FairseqNATDecoder):
        raise UserError(
            f"{type(model.decoder).__name__} does not predict word by word, as this criterion needs; train such a "
            "model with --criterion nat_loss on a teacher's translations, see docs/sequence-level.md"
        )
    if getattr(model.decoder, "adaptive_softmax", None) is not None:
        raise UserError(
            f"{type(model.decoder).__name__} uses --adaptive-softmax-cutoff, which word-level distillation cannot "
            "compare token by token; train the model with a full softmax"
        )
    layer = _output_projection(model.decoder)
    encoder_outputs: list = []
    hooks = [model.encoder.register_forward_hook(lambda module, inputs, output: encoder_outputs.append(output))]
    if type(model.encoder) in (TransformerEncoder, TransformerEncoderBase):
        hooks.append(model.encoder.register_forward_pre_hook(_ask_for_all_states, with_kwargs=True))
    try:
        with _passing_through(layer):
            output, extra = model(**net_input)[:2]
    finally:
        for hook in hooks:
            hook.remove()
    return ModelOutput(model, net_input, token_index, _select(output, token_index, layer), encoder_outputs[0], extra)


def _ask_for_all_states(encoder: nn.Module, args: tuple, options: dict) -> tuple[tuple, dict]:
    """Ask fairseq's encoder for the states of all layers, as every transformer but transformer_align does itself."""
    return args, options if len(args) > 2 else {"return_all_hiddens": True, **options}


def _select(output: Tensor, token_index: Tensor, layer: nn.Linear | None) -> Projection:
    features = output.reshape(-1, output.size(-1)).index_select(0, token_index)
    return Projection(features) if layer is None else Projection(features, layer.weight, layer.bias)


def _output_projection(decoder: Callable[..., Any]) -> nn.Linear | None:
    for name in OUTPUT_PROJECTIONS:
        layer = getattr(decoder, name, None)
        if isinstance(layer, nn.Linear):
            return layer
    return None


class _Using(torch.autograd.Function):
    """Returns `features`, and is connected to the output layer, to which it passes no gradient.

    Otherwise torch's wrapper for several workers, given --find-unused-parameters, would not find the layer in the graph
    of the model's output and would fail when `SummedLoss` gives it a gradient.
    """

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(ctx, of_features: Tensor):
        return of_features, None, None


@contextmanager
def _passing_through(layer: nn.Linear | None) -> Iterator[None]:
    """Make `layer`, if there is one, return its input unchanged within the block."""
    if layer is None:
        yield
        return
    vars(layer)["forward"] = lambda features: _Using.apply(features, layer.weight, layer.bias)
    try:
        yield
    finally:
        del vars(layer)["forward"]
