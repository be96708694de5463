"""The largest entries of long rows."""

import torch
from torch import Tensor

BLOCK = 64


def top_k_indices(values: Tensor, top_k: int) -> Tensor:
    """The indices [tokens, top_k] of the largest entries of each row of `values` [tokens, V], largest first.

    `torch.topk` and `argmax` walk over every entry one by one on a CPU. The maxima of blocks are fast to compute, and
    the k largest entries lie in the k blocks with the largest maxima, so that few entries are left to be looked at.
    """
    values = values.detach()
    blocks = values.size(-1) // BLOCK
    if blocks <= 2 * top_k or values.is_cuda:
        return values.topk(top_k).indices
    whole = values[:, : blocks * BLOCK].unflatten(-1, (blocks, BLOCK))
    best = whole.amax(-1).topk(top_k).indices
    inside = torch.arange(BLOCK, device=values.device)
    index = (best.unsqueeze(-1) * BLOCK + inside).flatten(1)
    rest = torch.arange(blocks * BLOCK, values.size(-1), device=values.device)
    index = torch.cat([index, rest.expand(values.size(0), -1)], dim=-1)
    return index.gather(-1, values.gather(-1, index).topk(top_k).indices)
