"""Run a fairseq encoder-decoder model up to its output projection."""

from contextlib import contextmanager

from fairseq.models import BaseFairseqModel
from torch import Tensor, nn

from nmt_kd.errors import UserError
from nmt_kd.losses.projection import Projection

# What fairseq's decoders call their last linear layer (transformer; LSTM; convolutional).
OUTPUT_PROJECTIONS = ("output_projection", "fc_out", "fc3")


def target_token_index(target: Tensor, padding_index: int, ignore_prefix_size: int = 0) -> Tensor:
    """Positions of the tokens that count, [tokens], in the flattened `target` [batch, length].

    Padding does not count, nor do the first `ignore_prefix_size` tokens of each sentence.
    """
    counts = target.ne(padding_index)
    counts[:, :ignore_prefix_size] = False
    return counts.flatten().nonzero().squeeze(1)


def read_features(model: BaseFairseqModel, net_input: dict, token_index: Tensor) -> Projection:
    """What `model` says about some target tokens, as features and the projection that turns them into logits.

    `net_input` is fairseq's; `token_index` [tokens] holds positions in the flattened [batch * length] target. The model
    is called as a whole, so that a wrapper for several workers does its part. Where it has no linear layer of its own
    at the end (a fairseq LSTM whose embeddings are shared, for one), its logits take the place of the features.

    Raises UserError for a model with an adaptive softmax: its outputs are no distribution over the vocabulary.
    """
    if getattr(model.decoder, "adaptive_softmax", None) is not None:
        raise UserError(
            f"{type(model.decoder).__name__} uses --adaptive-softmax-cutoff, which word-level distillation cannot "
            "compare token by token; train the model with a full softmax"
        )
    projection = _output_projection(model.decoder)
    if projection is None:
        output, _ = model(**net_input)
        return Projection(_select(output, token_index))
    with _passing_through(projection):
        output, _ = model(**net_input)
    return Projection(_select(output, token_index), projection.weight, projection.bias)


def _select(output: Tensor, token_index: Tensor) -> Tensor:
    return output.reshape(-1, output.size(-1)).index_select(0, token_index)


def _output_projection(decoder: nn.Module) -> nn.Linear | None:
    for name in OUTPUT_PROJECTIONS:
        layer = getattr(decoder, name, None)
        if isinstance(layer, nn.Linear):
            return layer
    return None


@contextmanager
def _passing_through(layer: nn.Linear):
    """Let `layer` return its input, within the block."""
    layer.forward = lambda features: features
    try:
        yield
    finally:
        del layer.forward
