"""Cross-entropy against the gold tokens."""

from torch import Tensor


def label_smoothed_cross_entropy(log_p: Tensor, gold: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Return fairseq's label-smoothed cross-entropy and the plain negative log-likelihood, both [tokens], in nats.

    With `e = label_smoothing / (V - 1)`, the first is `(1 - label_smoothing - e) nll + e sum_v(-log p_v)`.
    `log_p` [tokens, V] contains log-probabilities, `gold` [tokens] those tokens.
    """
    nll = -log_p.gather(-1, gold.unsqueeze(-1)).squeeze(-1)
    if label_smoothing == 0:
        return nll, nll
    return smoothed(nll, -log_p.sum(-1), label_smoothing, log_p.size(-1)), nll


def smoothed(nll: Tensor, nll_of_all: Tensor, label_smoothing: float, words: int) -> Tensor:
    """Return the label-smoothed cross-entropy, given the `nll` of the gold tokens and its sum over all `words`."""
    share = label_smoothing / (words - 1)
    return (1 - label_smoothing - share) * nll + share * nll_of_all
