"""From decoder features to a summed objective, a chunk of tokens at a time.

The logits of a batch are by far the largest tensor in the training of a translation model: 4,096 tokens times a
vocabulary of 37,184 are 600 MB in float32, and a loss needs several tensors of that size, for each model. Here they
exist for one chunk at a time: its logits are computed, its losses and their gradient with respect to the logits, and
that gradient is carried on to the features and the weights at once. Nothing is computed twice.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# float16 cannot hold the gradient of a rare word's logit, about 1e-7. These factors (powers of two, so exact) lift it,
# and what becomes of it in the weight's gradient; the second is small because that gradient sums over many tokens.
FLOAT16_LOGIT_SCALE = 256.0
FLOAT16_WEIGHT_SCALE = 16.0
FLOAT16_MOST_TOKENS = 1024  # in one such sum, or it might be more than float16 can hold

# Logits of one chunk: they should stay in the processor's cache, or be large enough to fill a GPU.
CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}
# With fewer tokens, more time goes into reading the output weights for each chunk than into computing with them.
FEWEST_TOKENS = 64

TokenFunction = Callable[[Tensor, slice], Tensor]
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


def default_chunk_size(projection: Projection) -> int:
    """A number of tokens whose logits make a good chunk for this vocabulary on this kind of device."""
    elements = CHUNK_ELEMENTS.get(projection.features.device.type, CHUNK_ELEMENTS["cuda"])
    return max(FEWEST_TOKENS, elements // projection.vocabulary_size)


def chunk_slices(tokens: int, chunk_size: int) -> Iterator[slice]:
    """Slices of `chunk_size` that cover `tokens` rows in order; no tokens are one empty slice."""
    for start in range(0, max(tokens, 1), chunk_size):
        yield slice(start, min(start + chunk_size, tokens))


def in_chunks(
    logits: Callable[[slice], Tensor], like: Projection, function: TokenFunction, chunk_size: int = 0
) -> Tensor:
    """`function(logits(rows), rows)`, [rows], for all tokens, [tokens], without gradients and a chunk at a time.

    `like` is a projection of the same tokens to the same vocabulary; `chunk_size` is that of `chunked_objective`.
    """
    chunk_size = chunk_size or default_chunk_size(like)
    with torch.no_grad():
        return torch.cat([function(logits(rows), rows) for rows in chunk_slices(like.features.size(0), chunk_size)])


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
    return summed_objective([(student, objective)], chunk_size)


def summed_objective(
    passes: Iterable[tuple[Projection, TokenObjective]], chunk_size: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of `chunked_objective` over several passes of one decoder, which share their weight and its gradient.

    A pass is asked for when the one before is done, so a generator may let one depend on what the last predicted.
    """
    inputs: list[Tensor] = []
    gradients: list[Tensor] = []
    shared: _Gradients | None = None
    loss, sums = torch.zeros(()), {}
    for student, objective in passes:
        trained = [tensor for tensor in (student.features, student.weight, student.bias) if tensor is not None]
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in trained)
        with torch.no_grad():
            of_this_pass = _Gradients(student, shared) if wanted else None
            loss = loss.to(student.features.device, _accumulation_dtype(student.features))
            for rows in chunk_slices(student.features.size(0), chunk_size or default_chunk_size(student)):
                chunk_loss, totals = _sums_of_chunk(student, objective, rows, of_this_pass)
                loss += chunk_loss
                for name, total in totals.items():
                    sums[name] = sums[name] + total if name in sums else total
        if of_this_pass is not None:
            new = [of_this_pass.features] if shared is not None else of_this_pass.all()
            inputs += trained[: len(new)]
            gradients += new
            shared = shared or of_this_pass
    if gradients:
        loss = _WithGradients.apply(loss, gradients, *inputs)
    return loss, sums


def _sums_of_chunk(
    student: Projection, objective: TokenObjective, rows: slice, gradients: "_Gradients | None"
) -> tuple[Tensor, dict[str, Tensor]]:
    """What `objective` and its named values sum up to in one chunk; nothing else of the chunk outlives this call."""
    wanted = gradients is not None
    logits = student.logits(rows).detach().requires_grad_(wanted)
    with torch.set_grad_enabled(wanted):
        token_losses, named = objective(logits, rows)
        loss = token_losses.sum()
    if gradients is not None:
        gradients.add(rows, loss, logits)
    return loss.detach(), {name: values.detach().sum() for name, values in named.items()}


class _Gradients:
    """The gradients of the summed loss of one pass, gathered chunk by chunk; the weight's and bias's are shared."""

    def __init__(self, student: Projection, shared: "_Gradients | None"):
        def zeros(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else torch.zeros_like(tensor, dtype=_accumulation_dtype(tensor))

        self.student = student
        self.features = zeros(student.features)
        self.weight = shared.weight if shared else zeros(student.weight)
        self.bias = shared.bias if shared else zeros(student.bias)

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
            for part in chunk_slices(len(features), FLOAT16_MOST_TOKENS):
                of_part = of_logits[part].t() @ (features[part] * (weight_scale / scale))
                self.weight.add_(of_part, alpha=1 / weight_scale)
        if self.bias is not None:
            self.bias += of_logits.sum(0, dtype=self.bias.dtype) / scale

    def all(self) -> list[Tensor]:
        return [gradient for gradient in (self.features, self.weight, self.bias) if gradient is not None]


class _WithGradients(torch.autograd.Function):
    """A scalar whose gradients with respect to `inputs` are known already, and given away when they are asked for."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        ctx.dtypes = [tensor.dtype for tensor in inputs]
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        if ctx.gradients is None:
            raise RuntimeError("this loss can be differentiated only once, for its gradients are given away")
        gradients, ctx.gradients = ctx.gradients, None
        # In place: the weight's gradient is as large as the embeddings.
        scaled = (gradient.mul_(upstream) for gradient in gradients)
        return (None, None, *(gradient.to(dtype) for gradient, dtype in zip(scaled, ctx.dtypes, strict=True)))


def _accumulation_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
