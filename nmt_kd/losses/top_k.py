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


def other_words(words: Tensor, count: int, vocabulary_size: int, are_words: Tensor | None = None) -> Tensor:
    """Return the first indices of the vocabulary that are not among `words`, in ascending order, [tokens, count].

    `words` is [tokens, k]; only those that `are_words`, bool [tokens, k] or None for all, are excluded. Where the
    vocabulary has fewer others, the excluded ones follow.
    """
    size = min(vocabulary_size, words.size(-1) + count)
    taken = torch.zeros(words.size(0), size + 1, dtype=torch.uint8, device=words.device)  # the last one is not used
    index = words.clamp(max=size)
    if are_words is not None:
        index = index[:, : are_words.size(-1)].where(are_words, size)
    taken.scatter_(-1, index, 1)
    return taken[:, :size].argsort(dim=-1, stable=True)[:, :count]
