"""Find the largest entries of long rows."""

import torch
from torch import Tensor

BLOCK = 64


def top_k_indices(values: Tensor, top_k: int) -> Tensor:
    """Return the indices of the largest entries of each row, [tokens, top_k], largest first; `values` is [tokens, V].

    On a CPU, `torch.topk` and `argmax` visit the entries one by one. The maxima of blocks are fast to compute, and the
    k largest entries lie in the k blocks with the largest maxima, so only a few entries remain to be searched.
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
