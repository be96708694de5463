"""Run a fairseq encoder-decoder model up to its output projection."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fairseq.models import BaseFairseqModel
from torch import Tensor, nn

from nmt_kd.engine.chunks import Projection
from nmt_kd.errors import UserError

# What fairseq's decoders call their last linear layer (transformer; LSTM; convolutional).
OUTPUT_PROJECTIONS = ("output_projection", "fc_out", "fc3")


def target_token_index(target: Tensor, padding_index: int, ignore_prefix_size: int = 0) -> Tensor:
    """Positions of the tokens that count, [tokens], in the flattened `target` [batch, length].

    Padding does not count, nor do the first `ignore_prefix_size` tokens of each sentence.
    """
    counts = target.ne(padding_index)
    counts[:, :ignore_prefix_size] = False
    return counts.flatten().nonzero().squeeze(1)


@dataclass(frozen=True)
class Reading:
    """What a model says about some target tokens, its layers, and a way to let it decode again."""

    model: BaseFairseqModel
    projection: Projection
    encoder_output: Any  # whatever the encoder returned
    decoder_extra: Any  # what the decoder returned beside its features
    decode_again: Callable[[Tensor], Projection]  # other decoder inputs [batch, length], the same encoder output

    @property
    def encoder_states(self) -> list[Tensor]:
        """The embeddings and the output of each encoder layer, [source length, batch, width] each (transformers)."""
        return self.encoder_output["encoder_states"]

    @property
    def decoder_states(self) -> list[Tensor]:
        """The embeddings and the output of each decoder layer, [target length, batch, width] each (transformers)."""
        return self.decoder_extra["inner_states"]


def read_features(model: BaseFairseqModel, net_input: dict, token_index: Tensor) -> Reading:
    """Run `model` once and keep what it says about some target tokens: features, and what turns them into logits.

    `net_input` is fairseq's; `token_index` [tokens] holds positions in the flattened [batch * length] target. The model
    is called as a whole, so that a wrapper for several workers does its part; only `decode_again` calls the decoder
    alone, on the encoder output of that call. Where the model has no linear layer of its own at the end (a fairseq LSTM
    whose embeddings are shared, for one), its logits take the place of the features.

    Raises UserError for a model with an adaptive softmax: its outputs are no distribution over the vocabulary.
    """
    if getattr(model.decoder, "adaptive_softmax", None) is not None:
        raise UserError(
            f"{type(model.decoder).__name__} uses --adaptive-softmax-cutoff, which word-level distillation cannot "
            "compare token by token; train the model with a full softmax"
        )
    layer = _output_projection(model.decoder)
    encoder_outputs: list = []
    hook = model.encoder.register_forward_hook(lambda module, inputs, output: encoder_outputs.append(output))

    def select(output: Tensor) -> Projection:
        features = output.reshape(-1, output.size(-1)).index_select(0, token_index)
        return Projection(features) if layer is None else Projection(features, layer.weight, layer.bias)

    def decode_again(prev_output_tokens: Tensor) -> Projection:
        with _passing_through(layer):
            return select(model.decoder(prev_output_tokens, encoder_out=encoder_outputs[0])[0])

    try:
        with _passing_through(layer):
            output, extra = model(**net_input)[:2]
            return Reading(model, select(output), encoder_outputs[0], extra, decode_again)
    finally:
        hook.remove()


def _output_projection(decoder: nn.Module) -> nn.Linear | None:
    for name in OUTPUT_PROJECTIONS:
        layer = getattr(decoder, name, None)
        if isinstance(layer, nn.Linear):
            return layer
    return None


@contextmanager
def _passing_through(layer: nn.Linear | None):
    """Let `layer`, if there is one, return its input within the block."""
    if layer is None:
        yield
        return
    layer.forward = lambda features: features
    try:
        yield
    finally:
        del layer.forward
