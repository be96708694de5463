"""Cross-entropy against the gold tokens."""

from torch import Tensor

from nmt_kd.losses.precision import at_least_float32


def label_smoothed_cross_entropy(logits: Tensor, gold: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """fairseq's label-smoothed cross-entropy and the plain negative log-likelihood, in nats.

    With `e = label_smoothing / (V - 1)` the first is `(1 - label_smoothing - e) nll + e sum_v(-log p_v)`.
    `logits` is [tokens, V], `gold` [tokens] holds the indices; both results are [tokens] in float32.
    """
    logits = at_least_float32(logits)
    vocabulary_size = logits.size(-1)
    log_normaliser = logits.logsumexp(-1)
    nll = log_normaliser - logits.gather(-1, gold.unsqueeze(-1)).squeeze(-1)
    if label_smoothing == 0:
        return nll, nll
    # sum_v(-log p_v), without a second tensor of the size of the logits
    smooth = vocabulary_size * log_normaliser - logits.sum(-1)
    share = label_smoothing / (vocabulary_size - 1)
    return (1 - label_smoothing - share) * nll + share * smooth, nll
