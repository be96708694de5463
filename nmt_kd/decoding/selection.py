"""Select the hypotheses that go into a corpus."""

from collections.abc import Callable

from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.decoding.shards import Hypothesis


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """Return the smoothed BLEU of one sentence, computed on subwords."""
    return _SENTENCE_BLEU.sentence_score(hypothesis, [reference]).score


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """Return the chrF of one sentence, computed on subwords without spaces."""
    return _SENTENCE_CHRF.sentence_score(hypothesis, [reference]).score


_SENTENCE_BLEU = BLEU(tokenize="none", smooth_method="add-k", smooth_value=1, effective_order=True)
_SENTENCE_CHRF = CHRF()
SIMILARITIES = {"bleu": sentence_bleu, "chrf": sentence_chrf}


def closest_to_reference(hypotheses: list[Hypothesis], reference: str, similarity: str) -> Hypothesis:
    """Return the hypothesis that is most similar to the reference (`inter`); of equals, the better-ranked one."""
    return max(hypotheses, key=lambda hypothesis: SIMILARITIES[similarity](hypothesis.text, reference))


WITHOUT_REFERENCE = ("kd", "best-2")
Choice = Callable[[list[Hypothesis], str], list[Hypothesis]]


def choices(similarity: str) -> dict[str, Choice]:
    """Return for each corpus part the function that selects hypotheses from an n-best list, given the reference."""
    return {
        "kd": lambda hypotheses, reference: hypotheses[:1],
        "best-2": lambda hypotheses, reference: hypotheses[:2],
        "inter": lambda hypotheses, reference: [closest_to_reference(hypotheses, reference, similarity)],
    }
