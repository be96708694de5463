"""The metrics of `nmt-kd score`: all are metrics of sacrebleu's kind, so that its significance tests work with each."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Metric, Score, Signature
from sacrebleu.metrics.bleu import BLEUScore

from nmt_kd.errors import UserError


class MultiBLEU(BLEU):
    """BLEU as multi-bleu.perl has it: of text that is tokenised already, by spaces, without smoothing.

    With `moses_language` the text is tokenised first, as sacremoses' command line does for that language.
    """

    def __init__(self, references: Sequence[Sequence[str]], moses_language: str | None = None):
        self.moses_language = moses_language
        self.moses = moses_tokenise(moses_language) if moses_language else str
        super().__init__(tokenize="none", smooth_method="none", force=True, references=references)

    def _preprocess_segment(self, sentence: str) -> str:
        return self.moses(super()._preprocess_segment(sentence))

    def get_signature(self) -> Signature:
        """sacrebleu's signature, and what tokenised the text."""
        signature = super().get_signature()
        signature.update("tok", f"moses-{self.moses_language}" if self.moses_language else "none")
        return signature


def as_multi_bleu(score: BLEUScore) -> str:
    """A score in the words of multi-bleu.perl."""
    precisions = "/".join(f"{precision:.1f}" for precision in score.precisions)
    return (
        f"BLEU = {score.score:.2f}, {precisions} (BP={score.bp:.3f}, ratio={score.ratio:.3f}, "
        f"hyp_len={score.sys_len}, ref_len={score.ref_len})"
    )


def moses_tokenise(language: str) -> Callable[[str], str]:
    """Moses' tokeniser for a language; UserError where sacremoses is missing."""
    try:
        from sacremoses import MosesTokenizer
    except ImportError:
        raise UserError("--moses needs sacremoses; pip install 'nmt-kd[recipes]'") from None
    return partial(MosesTokenizer(lang=language).tokenize, return_str=True)


class SegmentMean(Metric):
    """The mean of a score that each sentence has by itself, as COMET's."""

    def __init__(self, name: str, score_sentences: Callable[[Sequence[str]], list[float]]):
        super().__init__()
        self.name, self.score_sentences = name, score_sentences
        self.num_refs = 1
        self.known: dict[tuple[str, ...], list[float]] = {}  # a test asks for the same sentences again

    def _extract_corpus_statistics(self, hypotheses, references):
        key = tuple(hypotheses)
        if key not in self.known:
            self.known[key] = self.score_sentences(hypotheses)
        return [[score, 1.0] for score in self.known[key]]

    def _aggregate_and_compute(self, stats):
        return self._compute_score_from_stats([sum(column) for column in zip(*stats, strict=True)])

    def _compute_score_from_stats(self, stats):
        total, sentences = stats
        return Score(self.name, float(total / sentences))

    def get_signature(self) -> Signature:
        """The name of the model behind the score."""
        signature = super().get_signature()
        signature.update("model", self.name)
        return signature

    # How sacrebleu's other metrics get from sentences to statistics; this one takes all sentences at once.
    _preprocess_segment = _extract_reference_info = _compute_segment_statistics = None


# Metrics by the names that the command line knows; each is made of the references and the command's arguments.
METRICS: dict[str, Callable[[list[list[str]], argparse.Namespace], Metric]] = {
    "bleu": lambda references, args: BLEU(references=references),
    "chrf": lambda references, args: CHRF(references=references),
    "ter": lambda references, args: TER(references=references),
    "multi-bleu": lambda references, args: MultiBLEU(references, args.moses),
}
