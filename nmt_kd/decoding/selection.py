"""Select the hypotheses that go into a corpus."""

from collections.abc import Callable

from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.decoding.parts import depth
from nmt_kd.decoding.scores import scores_of
from nmt_kd.decoding.shards import Decoded


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """Return the smoothed BLEU of one sentence, computed on subwords."""
    return _SENTENCE_BLEU.sentence_score(hypothesis, [reference]).score


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """Return the chrF of one sentence, computed on subwords without spaces."""
    return _SENTENCE_CHRF.sentence_score(hypothesis, [reference]).score


_SENTENCE_BLEU = BLEU(tokenize="none", smooth_method="add-k", smooth_value=1, effective_order=True)
_SENTENCE_CHRF = CHRF()
SIMILARITIES = {"bleu": sentence_bleu, "chrf": sentence_chrf}


def selected(part: str, decoded: Decoded, closeness: Callable[[str], float]) -> list[int]:
    """Return the ranks of the hypotheses that a part takes; among equally good ones, the better-ranked.

    `closeness` returns how close a hypothesis is to the reference (for `inter`). `mbr` and `qe` need scores of
    that name in the notes of `decoded` (see `read_with_scores`).
    """
    ranks = range(len(decoded.hypotheses))
    if not ranks:
        return []
    if (best := depth(part)) is not None:
        return list(ranks[:best])
    if part == "inter":
        return [max(ranks, key=lambda rank: closeness(decoded.hypotheses[rank].text))]
    scores = scores_of(decoded, part)
    return [max(ranks, key=lambda rank: scores[rank])]
