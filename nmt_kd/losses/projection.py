"""From decoder features to a summed objective, a chunk of tokens at a time.

The logits of a batch are by far the largest tensor in the training of a translation model: 4,096 tokens times a
vocabulary of 37,184 are 600 MB in float32, and a loss needs several tensors of that size, for each model. Here they
exist for one chunk at a time: its logits are computed, its losses and their gradient with respect to the logits, and
that gradient is carried on to the features and the weights at once. Nothing is computed twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# float16 cannot hold the gradient of a rare word's logit, about 1e-7. These factors (powers of two, so exact) lift it,
# and what becomes of it in the weight's gradient; the second is small because that gradient sums over many tokens.
FLOAT16_LOGIT_SCALE = 256.0
FLOAT16_WEIGHT_SCALE = 16.0

# Logits of one chunk: they should stay in the processor's cache, or be large enough to fill a GPU.
CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}

TokenObjective = Callable[[Tensor, slice], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Projection:
    """A model's features for the tokens of a batch, and the linear layer that turns them into logits.

    `features` is [tokens, width], `weight` [V, width], `bias` [V] or None. Without `weight` the features are the
    logits themselves, [tokens, V].
    """

    features: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def vocabulary_size(self) -> int:
        return self.features.size(-1) if self.weight is None else self.weight.size(0)

    def logits(self, rows: slice) -> Tensor:
        """The logits of some tokens, [rows, V], in the precision of the model."""
        features = self.features[rows]
        return features if self.weight is None else functional.linear(features, self.weight, self.bias)


def default_chunk_size(vocabulary_size: int, device_type: str) -> int:
    """A number of tokens whose logits make a good chunk on this kind of device."""
    elements = CHUNK_ELEMENTS.get(device_type, CHUNK_ELEMENTS["cuda"])
    return max(32, elements // vocabulary_size)


def chunked_objective(
    student: Projection, objective: TokenObjective, chunk_size: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum `objective` over all tokens, holding the logits of `chunk_size` tokens at most (0: a good default).

    `objective(logits, rows)` gets the student's logits [n, V] of the tokens in the slice `rows` and returns the loss
    of each, [n], and further named values, [n], that are only to be summed. It is called once for each chunk, in
    order, with gradients enabled where they are wanted.

    Returns the loss (a scalar with gradients to the student's features, weight and bias) and the sums of the named
    values (scalars without gradients), in float32 or the features' float64.
    """
    rows_in_all = student.features.size(0)
    chunk_size = chunk_size or default_chunk_size(student.vocabulary_size, student.features.device.type)
    inputs = [tensor for tensor in (student.features, student.weight, student.bias) if tensor is not None]
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    loss = student.features.new_zeros((), dtype=_accumulation_dtype(student.features))
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        detached = Projection(*(None if t is None else t.detach() for t in vars(student).values()))
        gradients = _Gradients(detached) if wanted else None
        # A batch without tokens still goes through the objective once, so that its sums have their names.
        for start in range(0, max(rows_in_all, 1), chunk_size):
            rows = slice(start, min(start + chunk_size, rows_in_all))
            logits = detached.logits(rows).requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                token_losses, named = objective(logits, rows)
                chunk_loss = token_losses.sum()
            if gradients is not None:
                gradients.add(rows, chunk_loss, logits)
            loss += chunk_loss.detach()
            for name, values in named.items():
                total = values.detach().sum()
                sums[name] = sums[name] + total if name in sums else total
    if gradients is not None:
        loss = _WithGradients.apply(loss, gradients.all(), *inputs)
    return loss, sums


class _Gradients:
    """The gradients of the summed loss, gathered chunk by chunk."""

    def __init__(self, student: Projection):
        self.student = student
        dtype = _accumulation_dtype(student.features)
        self.features, self.weight, self.bias = (
            None if tensor is None else torch.zeros_like(tensor, dtype=dtype) for tensor in vars(student).values()
        )

    def add(self, rows: slice, chunk_loss: Tensor, logits: Tensor) -> None:
        in_float16 = logits.dtype == torch.float16
        scale, weight_scale = (FLOAT16_LOGIT_SCALE, FLOAT16_WEIGHT_SCALE) if in_float16 else (1.0, 1.0)
        (of_logits,) = torch.autograd.grad(chunk_loss, logits, torch.full_like(chunk_loss, scale))
        if self.weight is None:
            self.features[rows] = of_logits.to(self.features.dtype) / scale
            return
        features = self.student.features[rows]
        if of_logits.dtype == self.weight.dtype:
            torch.mm(of_logits, self.student.weight, out=self.features[rows])
            self.weight.addmm_(of_logits.t(), features)
        else:
            self.features[rows] = (of_logits @ self.student.weight).to(self.features.dtype) / scale
            self.weight.add_(of_logits.t() @ (features * (weight_scale / scale)), alpha=1 / weight_scale)
        if self.bias is not None:
            self.bias += of_logits.sum(0, dtype=self.bias.dtype) / scale

    def all(self) -> list[Tensor]:
        return [gradient for gradient in (self.features, self.weight, self.bias) if gradient is not None]


class _WithGradients(torch.autograd.Function):
    """A scalar whose gradients with respect to `inputs` are known already."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [tensor.dtype for tensor in inputs]
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        scaled = ((upstream * gradient) for gradient in ctx.saved_tensors)
        return (None, None, *(gradient.to(dtype) for gradient, dtype in zip(scaled, ctx.dtypes, strict=True)))


def _accumulation_dtype(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32
