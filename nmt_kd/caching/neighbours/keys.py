"""The keys of target positions: what the last decoder layer's feed-forward block reads there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor, nn

from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError


class KeyReader:
    """Computes the keys of target positions under gold prefixes with the base model.

    A key is the input of the first linear layer, `fc1`, of the last decoder layer, so always the output of a layer
    norm. With post-norm it is the norm after cross-attention, and the key is also the residual of the feed-forward
    block. With pre-norm it is the norm before the block (`final_layer_norm`), and the residual is another vector. In
    kNN-LM too, the input after the layer norm worked best (Khandelwal et al., 2020).
    """

    def __init__(self, base: Teacher, path: str):
        """Make a reader with a base model; `path` is its checkpoint. UserError if it is not a single transformer.

        Its `layer` is the one whose inputs are the keys.
        """
        if len(base.models) != 1:
            raise UserError(f"{path} names {len(base.models)} checkpoints, but keys come from one model; give one")
        self.base = base
        self.layer = _feed_forward(base.models[0], path)
        self.width = self.layer.in_features

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> Tensor:
        """Return the keys at the tokens of `token_index`, [tokens, width].

        `sample` and `like` are as in `TeacherSource.read`. The keys are rounded to float16, as in a datastore. Raises
        UserError if one does not fit into it.
        """
        predictions = self.base.read(sample, token_index, like)
        with torch.no_grad(), _inputs_of(self.layer) as inputs:
            assert len(predictions.outputs) == 1
        (states,) = inputs
        keys = states.transpose(0, 1).flatten(0, 1)[token_index].half()
        if not bool(keys.isfinite().all()):
            raise UserError(
                "a decoder state of the base model is NaN or too large for float16, so its training has diverged; give "
                "another checkpoint with --teacher-path"
            )
        return keys


def _feed_forward(model: BaseFairseqModel, path: str) -> nn.Linear:
    layers = getattr(model.decoder, "layers", None)
    layer = getattr(layers[-1], "fc1", None) if isinstance(layers, nn.ModuleList) and len(layers) else None
    if not isinstance(layer, nn.Linear):
        raise UserError(
            f"the decoder of {path} ({type(model.decoder).__name__}) has no feed-forward block in its last layer, "
            "from which the keys are read; give a transformer"
        )
    return layer


@contextmanager
def _inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the inputs of a layer within the block."""
    inputs: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
    try:
        yield inputs
    finally:
        hook.remove()
