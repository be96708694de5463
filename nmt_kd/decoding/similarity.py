"""Measure how close a hypothesis is to a reference."""

from sacrebleu.metrics import BLEU, CHRF


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """Return the smoothed BLEU of one sentence, computed on subwords."""
    return _SENTENCE_BLEU.sentence_score(hypothesis, [reference]).score


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """Return the chrF of one sentence, computed on subwords without spaces."""
    return _SENTENCE_CHRF.sentence_score(hypothesis, [reference]).score


_SENTENCE_BLEU = BLEU(tokenize="none", smooth_method="add-k", smooth_value=1, effective_order=True)
_SENTENCE_CHRF = CHRF()
SIMILARITIES = {"bleu": sentence_bleu, "chrf": sentence_chrf}
