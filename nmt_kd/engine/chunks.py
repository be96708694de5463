"""Compute a summed loss from decoder features, one chunk of tokens at a time.

The logits of a batch are by far the largest tensor in the training of a translation model: 4,096 tokens times a
vocabulary of 37,184 take 600 MB in float32, and a loss needs several tensors of that size for each model. Here only one
chunk's logits exist at a time: `SummedLoss` computes them, the caller computes the chunk's losses, and `SummedLoss`
backpropagates these to the features and the output weights right away. So the backward pass recomputes nothing.

    total = SummedLoss()
    for chunk in total.chunks(view):
        total.add(chunk, losses, named)
    loss, sums = total.result()
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.logits import Logits
from nmt_kd.losses.precision import accumulation_dtype, log_probabilities

# In float16 the gradient of a rare word's logit, about 1e-7, would underflow. These factors scale up the gradients of
# logits and weights; powers of two make this exact. The second is smaller because that gradient sums over many tokens.
FLOAT16_LOGIT_SCALE = 256.0
FLOAT16_WEIGHT_SCALE = 16.0
FLOAT16_MOST_TOKENS = 1024  # per sum; a sum over more tokens could overflow

# The number of logits in a chunk: few enough for a CPU's cache, or enough to keep a GPU busy.
CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}
# With fewer tokens per chunk, loading the output weights takes longer than computing with them.
FEWEST_TOKENS = 64


@dataclass(frozen=True)
class Projection:
    """A model's features for some tokens, and the linear layer that turns them into logits.

    `features` is [tokens, width], `weight` [V, width], `bias` [V] or None. Without `weight` the features are the
    logits themselves, [tokens, V].
    """

    features: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def vocabulary_size(self) -> int:
        """The number of logits of a token, V."""
        return self.features.size(-1) if self.weight is None else self.weight.size(0)

    @property
    def trained(self) -> list[Tensor]:
        """The tensors of the projection that require gradients."""
        tensors = (self.features, self.weight, self.bias)
        return [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]

    def logits(self, rows: slice) -> Tensor:
        """Return the logits of the tokens in `rows`, [rows, V], in the precision of the model."""
        features = self.features[rows]
        return features if self.weight is None else functional.linear(features, self.weight, self.bias)


def default_chunk_tokens(vocabulary_size: int, device: torch.device) -> int:
    """Return the number of tokens in a chunk that suits this vocabulary size and kind of device."""
    elements = CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS["cuda"])
    return max(FEWEST_TOKENS, elements // vocabulary_size)


def chunk_slices(tokens: int, chunk_tokens: int) -> Iterator[slice]:
    """Yield slices of up to `chunk_tokens` that cover `tokens` rows in order; without tokens, one empty slice."""
    for start in range(0, max(tokens, 1), chunk_tokens):
        yield slice(start, min(start + chunk_tokens, tokens))


def per_token(
    logits: Callable[[slice], Tensor],
    like: Projection,
    function: Callable[[Tensor, slice], Tensor],
    chunk_tokens: int = 0,
) -> Tensor:
    """Return the values, [tokens], that `function(logits(rows), rows)`, [rows], has for each chunk, without gradients.

    `like` is a projection of the same tokens to the same vocabulary; `chunk_tokens` is as in `SummedLoss`.
    """
    tokens, device = like.features.size(0), like.features.device
    chunk_tokens = chunk_tokens or default_chunk_tokens(like.vocabulary_size, device)
    with torch.no_grad():
        return torch.cat([function(logits(rows), rows) for rows in chunk_slices(tokens, chunk_tokens)])


def gold_nll(projection: Projection, gold: Tensor, chunk_tokens: int = 0) -> Tensor:
    """Return the negative log-likelihood of each `gold` token, both [tokens], in nats, without gradients."""

    def nll(logits: Tensor, rows: slice) -> Tensor:
        return label_smoothed_cross_entropy(log_probabilities(logits), gold[rows], 0.0)[1]

    return per_token(projection.logits, projection, nll, chunk_tokens)


class Chunk:
    """Some tokens of a view, and their logits under each of its projections, [tokens, V] each.

    `SummedLoss.add` empties the chunk: the caller's variable would otherwise keep its tensors alive while the next
    chunk is computed.
    """

    def __init__(self, rows: slice, logits: Sequence[Logits]):
        self.rows = rows
        self.logits = logits

    def free(self) -> None:
        """Drop all tensors."""
        vars(self).clear()


ChunkType = TypeVar("ChunkType", bound=Chunk, covariant=True)


class View(Protocol, Generic[ChunkType]):
    """Tokens with one or several projections to logits, divided into chunks of a type that the view chooses."""

    @property
    def projections(self) -> Sequence[Projection]: ...

    def chunk(self, rows: slice, logits: Sequence[Logits]) -> ChunkType: ...


class SummedLoss:
    """The sum of token losses over chunks and views, with its gradients.

    Gradients are kept by the tensor they belong to, so views may share an output layer, have different ones, or project
    the same tokens several times side by side. However many views there are, only one chunk's logits exist at a time.
    """

    def __init__(self, chunk_tokens: int = 0):
        """`chunk_tokens` is the number of tokens in a chunk; 0 chooses by vocabulary size and device."""
        self._chunk_tokens = chunk_tokens
        self._loss = torch.zeros(())
        self._sums: dict[str, Tensor] = {}
        self._gradients: dict[Tensor, Tensor] = {}
        self._projections: Sequence[Projection] | None = None  # of the chunk to be added next

    def chunks(self, view: View[ChunkType]) -> Iterator[ChunkType]:
        """Yield the chunks of a view in order; each must be added before the next is requested."""
        projections = view.projections
        first = projections[0]
        tokens, device = first.features.size(0), first.features.device
        dtype = torch.promote_types(self._loss.dtype, accumulation_dtype(first.features))
        # create the zero on the device: a GPU would wait for a copy from the CPU
        self._loss = (
            self._loss.to(dtype) if self._loss.device == device else torch.zeros((), dtype=dtype, device=device)
        )
        wanted = [torch.is_grad_enabled() and bool(projection.trained) for projection in projections]
        for tensor in (tensor for projection in projections for tensor in projection.trained):
            if torch.is_grad_enabled() and tensor not in self._gradients:
                self._gradients[tensor] = torch.zeros_like(tensor, dtype=accumulation_dtype(tensor))
        chunk_tokens = self._chunk_tokens or default_chunk_tokens(first.vocabulary_size, device)
        for rows in chunk_slices(tokens, chunk_tokens):
            self._projections = projections
            # in one expression: a variable of this generator would keep the logits after `add` has emptied the chunk
            yield view.chunk(rows, list(map(_logits, projections, repeat(rows), wanted)))
            if self._projections is not None:
                raise RuntimeError(
                    "a chunk was not added to the loss before the next one was requested; add each chunk in the loop"
                )

    def add(self, chunk: Chunk, losses: Tensor, named: Mapping[str, Tensor]) -> None:
        """Add the chunk's `losses` [tokens] and `named` values, [tokens] each, to their sums, and empty the chunk."""
        if self._projections is None:
            raise RuntimeError("this chunk has been added already; add each chunk once")
        loss = losses.sum()
        if loss.requires_grad:
            self._differentiate(loss, chunk)
        with torch.no_grad():
            self._loss += loss.detach()
            for name, values in named.items():
                total = values.detach().sum()
                self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._projections = None
        chunk.free()

    def result(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar that can be differentiated once, and the sums of the named values.

        The loss is float32, or float64 for float64 features.
        """
        if not self._gradients:
            return self._loss, self._sums
        return _WithGradients.apply(self._loss, list(self._gradients.values()), *self._gradients), self._sums

    @torch.no_grad()
    def _differentiate(self, loss: Tensor, chunk: Chunk) -> None:
        """Backpropagate a chunk's loss to the features and output layers that its logits were computed from."""
        in_float16 = any(logits.values.dtype == torch.float16 for logits in chunk.logits)
        scale = FLOAT16_LOGIT_SCALE if in_float16 else 1.0
        leaves = [leaf for logits in chunk.logits for leaf in logits.leaves]
        gradients = torch.autograd.grad(loss, leaves, torch.full_like(loss, scale), allow_unused=True)
        of_leaves = dict(zip(leaves, gradients, strict=True))
        for projection, logits in zip(self._projections or (), chunk.logits, strict=True):
            of_logits = logits.gradient(of_leaves) if logits.leaves else None
            if of_logits is not None:
                self._add_gradients(projection, chunk.rows, of_logits, scale)

    def _add_gradients(self, projection: Projection, rows: slice, of_logits: Tensor, scale: float) -> None:
        """Add the gradients of a projection's tensors, given that of its logits, [rows, V], times `scale`."""
        of_features = self._gradients.get(projection.features)
        if projection.weight is None:
            assert of_features is not None  # the logits are the features themselves
            of_features[rows] += of_logits.to(of_features.dtype) / scale
            return
        features = projection.features[rows]
        of_weight = self._gradients.get(projection.weight)
        exact = of_logits.dtype == accumulation_dtype(of_logits)
        if of_features is not None:
            if exact:
                of_features[rows].addmm_(of_logits, projection.weight, alpha=1 / scale)
            else:
                of_features[rows] += (of_logits @ projection.weight).to(of_features.dtype) / scale
        if of_weight is not None:
            if exact:
                of_weight.addmm_(of_logits.t(), features, alpha=1 / scale)
            elif adds_half_products_in_float32(of_logits.device):
                in_half = features.to(of_logits.dtype)  # float32 under autocast
                torch.addmm(
                    of_weight, of_logits.t(), in_half, alpha=1 / scale, out_dtype=of_weight.dtype, out=of_weight
                )
            else:
                weight_scale = FLOAT16_WEIGHT_SCALE if of_logits.dtype == torch.float16 else 1.0
                for part in chunk_slices(len(features), FLOAT16_MOST_TOKENS):
                    of_part = of_logits[part].t() @ (features[part] * (weight_scale / scale))
                    of_weight.add_(of_part, alpha=1 / weight_scale)
        of_bias = None if projection.bias is None else self._gradients.get(projection.bias)
        if of_bias is not None:
            of_bias += of_logits.sum(0, dtype=of_bias.dtype) / scale


@functools.cache
def adds_half_products_in_float32(device: torch.device) -> bool:
    """Whether torch can add the product of two matrices in half precision to one in float32 (on CUDA, from 2.8 on)."""
    try:
        half, single = (torch.zeros(8, 8, dtype=dtype, device=device) for dtype in (torch.float16, torch.float32))
        torch.addmm(single, half, half, out_dtype=single.dtype, out=single)
    except (TypeError, RuntimeError):  # NotImplementedError on a CPU
        return False
    return True


class _WithGradients(torch.autograd.Function):
    """Returns a scalar whose gradients with respect to `inputs` are already known; backward releases them."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        ctx.dtypes = [tensor.dtype for tensor in inputs]
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        if ctx.gradients is None:
            raise RuntimeError(
                "this loss can be differentiated only once, because backward frees its gradients; compute it again"
            )
        gradients, ctx.gradients = ctx.gradients, None
        # In place, because the weight's gradient is as large as the embeddings.
        scaled = (gradient.mul_(upstream) for gradient in gradients)
        return (None, None, *(gradient.to(dtype) for gradient, dtype in zip(scaled, ctx.dtypes, strict=True)))


@torch.no_grad()
def _logits(projection: Projection, rows: slice, trained: bool) -> Logits:
    """Return the logits of some tokens."""
    return Logits.of(projection.logits(rows), trained)
