"""Small transformers to ship, by name: the sizes of the students that Firefox translates with.

Sizes from Bergamot's training recipes (browsermt/students): post-norm, ReLU, 8 heads. Their decoders are SSRU, which
fairseq and CTranslate2 lack; these have fairseq's self-attention instead. `transformer_tiny` is fairseq's own, with
another size.
"""

from fairseq.models import register_model_architecture
from fairseq.models.transformer import base_architecture

HEADS = 8


def _student(args, encoder_layers: int, decoder_layers: int, width: int, feed_forward: int) -> None:
    """Set the size of a student, except where a flag has set it."""
    for half, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        sizes = {"layers": layers, "embed_dim": width, "ffn_embed_dim": feed_forward, "attention_heads": HEADS}
        for name, size in sizes.items():
            setattr(args, f"{half}_{name}", getattr(args, f"{half}_{name}", size))
    base_architecture(args)


@register_model_architecture("transformer", "transformer_student_tiny")
def transformer_student_tiny(args) -> None:
    """Set up Bergamot's `tiny`: 256 wide, feed-forward 1536, 6 encoder and 2 decoder layers."""
    _student(args, 6, 2, 256, 1536)


@register_model_architecture("transformer", "transformer_student_base_memory")
def transformer_student_base_memory(args) -> None:
    """Set up Bergamot's `base-memory`: 384 wide, feed-forward 1536, 6 encoder and 4 decoder layers."""
    _student(args, 6, 4, 384, 1536)


@register_model_architecture("transformer", "transformer_student_base")
def transformer_student_base(args) -> None:
    """Set up Bergamot's `base`: 512 wide, feed-forward 2048, 6 encoder and 2 decoder layers."""
    _student(args, 6, 2, 512, 2048)
