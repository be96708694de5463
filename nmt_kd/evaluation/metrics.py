"""The metrics of `nmt-kd score`. All are sacrebleu metrics, so its significance tests work with each of them."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import numpy
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Metric, Score, Signature
from sacrebleu.metrics.bleu import BLEUScore

from nmt_kd.errors import UserError


class MultiBLEU(BLEU):
    """BLEU as multi-bleu.perl computes it: on tokens separated by spaces, without smoothing.

    With `moses_language`, the text is first tokenised as the sacremoses command line does for that language.
    """

    def __init__(self, references: Sequence[Sequence[str]], moses_language: str | None = None):
        self.moses_language = moses_language
        self.moses = moses_tokenise(moses_language) if moses_language else str
        super().__init__(tokenize="none", smooth_method="none", force=True, references=references)

    def _preprocess_segment(self, sentence: str) -> str:
        return self.moses(super()._preprocess_segment(sentence))

    def get_signature(self) -> Signature:
        """Return sacrebleu's signature with the tokeniser's name."""
        signature = super().get_signature()
        signature.update("tok", f"moses-{self.moses_language}" if self.moses_language else "none")
        return signature


def as_multi_bleu(score: BLEUScore) -> str:
    """Format a score as multi-bleu.perl prints it."""
    precisions = "/".join(f"{precision:.1f}" for precision in score.precisions)
    return (
        f"BLEU = {score.score:.2f}, {precisions} (BP={score.bp:.3f}, ratio={score.ratio:.3f}, "
        f"hyp_len={score.sys_len}, ref_len={score.ref_len})"
    )


def moses_tokenise(language: str) -> Callable[[str], str]:
    """Return the Moses tokeniser for a language. Raises UserError if sacremoses is not installed."""
    try:
        from sacremoses import MosesTokenizer
    except ImportError:
        raise UserError("--moses needs sacremoses; pip install 'nmt-kd[recipes]'") from None
    return partial(MosesTokenizer(lang=language).tokenize, return_str=True)


def bleu_and_chrf(references: list[str]) -> dict[str, Metric]:
    """Return sacrebleu's BLEU and chrF for a single reference."""
    return {"BLEU": BLEU(references=[references]), "chrF": CHRF(references=[references])}


class WholeCorpusMetric(Metric):
    """A metric that collects its statistics from all sentences at once, unlike sacrebleu's own metrics."""

    def _preprocess_segment(self, sent):
        raise NotImplementedError

    def _extract_reference_info(self, refs):
        raise NotImplementedError

    def _compute_segment_statistics(self, hypothesis, ref_kwargs):
        raise NotImplementedError


class SegmentMean(WholeCorpusMetric):
    """The mean of a sentence-level score, such as COMET."""

    def __init__(self, name: str, score_sentences: Callable[[Sequence[str]], list[float]]):
        super().__init__()
        self.name, self.score_sentences = name, score_sentences
        self.num_refs = 1
        self.known: dict[tuple[str, ...], list[float]] = {}  # significance tests score the same sentences repeatedly

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
        """Return sacrebleu's signature with the name of the model that gives the scores."""
        signature = super().get_signature()
        signature.update("model", self.name)
        return signature


class SumOfRuns(WholeCorpusMetric):
    """A metric over several runs of a system: a hypothesis is a tuple with each run's translation of a sentence.

    A sentence's statistics are the sums over its translations, so the score is that of all runs' translations together.
    """

    def __init__(self, metric: Metric):
        super().__init__()
        self.metric = metric
        self.num_refs = metric.num_refs

    def _extract_corpus_statistics(self, hypotheses, references):
        runs = [self.metric._extract_corpus_statistics(run, references) for run in zip(*hypotheses, strict=True)]
        return numpy.sum(runs, axis=0)

    def _aggregate_and_compute(self, stats):
        return self._compute_score_from_stats(numpy.sum(stats, axis=0))

    def _compute_score_from_stats(self, stats):
        return self.metric._compute_score_from_stats(list(stats))

    def get_signature(self) -> Signature:
        """Return the signature of the metric."""
        return self.metric.get_signature()


# Metrics by their names on the command line; each is built from the references and the command's arguments.
METRICS: dict[str, Callable[[list[list[str]], argparse.Namespace], Metric]] = {
    "bleu": lambda references, args: BLEU(references=references),
    "chrf": lambda references, args: CHRF(references=references),
    "ter": lambda references, args: TER(references=references),
    "multi-bleu": lambda references, args: MultiBLEU(references, args.moses),
}
