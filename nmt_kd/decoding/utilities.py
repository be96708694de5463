"""Score hypotheses for the choice of a corpus: utilities for MBR decoding, quality estimation, and a reverse model."""

import math
from itertools import chain
from typing import Any, Protocol

import torch

from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.engine.comet import comet_checkpoint, read_comet
from nmt_kd.errors import UserError
from nmt_kd.workers import device_of_worker

Texts = tuple[str, list[str]]  # a source with hypotheses, as plain text
BATCH_SIZE = 32  # sentences that COMET encodes at once
PAIRS_AT_ONCE = 4096  # pairs of hypotheses that COMET compares at once


class Scorer(Protocol):
    """Scores hypotheses; higher is better."""

    name: str  # of the scores
    settings: dict  # that determine the scores

    def score(self, entries: list[Texts]) -> list[list[float]]:
        """Return for each source the scores of its hypotheses."""


class ChrfUtility:
    """The mean chrF of each hypothesis, with the other hypotheses as references."""

    name = "mbr"

    def __init__(self) -> None:
        try:
            import fastchrf
        except ImportError:
            raise UserError("'mbr' needs fastchrf; pip install 'nmt-kd[mbr]'") from None
        self.pairwise = fastchrf.pairwise_chrf
        self.settings = {"utility": "chrF"}

    def score(self, entries: list[Texts]) -> list[list[float]]:
        """Return for each source the mean utilities of its hypotheses."""
        lists = [texts for _, texts in entries]
        return [_means(utilities) for utilities in self.pairwise(lists, lists)]


class CometUtility:
    """The mean COMET score of each hypothesis, with the other hypotheses as references."""

    name = "mbr"

    def __init__(self, name: str):
        """Load the model `name`; raises UserError if it does not compare with references."""
        checkpoint = comet_checkpoint(name)
        self.model = _on_device(read_comet(checkpoint))
        if not (hasattr(self.model, "estimate") and self.model.requires_references()):
            raise UserError(
                f"--mbr-comet {name} does not compare translations with references; give a regression model such as "
                "Unbabel/wmt22-comet-da"
            )
        self.settings = {"utility": f"COMET {file_hash(checkpoint)}", "precision": str(self.model.dtype)}

    def score(self, entries: list[Texts]) -> list[list[float]]:
        """Return for each source the mean utilities of its hypotheses; each text is encoded once."""
        different = {text for source, hypotheses in entries if hypotheses for text in (source, *hypotheses)}
        texts = sorted(different, key=lambda text: (len(text), text))
        row = {text: number for number, text in enumerate(texts)}
        batches = [texts[first : first + BATCH_SIZE] for first in range(0, len(texts), BATCH_SIZE)]
        with torch.no_grad():
            embeddings = torch.cat([self._encode(batch) for batch in batches]) if batches else torch.zeros(0)
            return [
                self._utilities(embeddings[row[source]], embeddings[[row[text] for text in hypotheses]])
                if hypotheses
                else []
                for source, hypotheses in entries
            ]

    def _encode(self, texts: list[str]) -> torch.Tensor:
        inputs = self.model.encoder.prepare_sample(texts)
        tokens, mask = (inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask"))
        return self.model.get_sentence_embedding(tokens, mask)

    def _utilities(self, source: torch.Tensor, hypotheses: torch.Tensor) -> list[float]:
        count = len(hypotheses)
        pairs = hypotheses.repeat_interleave(count, 0), hypotheses.repeat(count, 1)
        scores = [
            self.model.estimate(source.expand(len(one), -1), one, other).score
            for one, other in zip(*(side.split(PAIRS_AT_ONCE) for side in pairs), strict=True)
        ]
        return _means(torch.cat(scores).view(count, count).tolist())


class CometQuality:
    """The scores of a reference-free COMET model."""

    name = "qe"

    def __init__(self, name: str):
        """Load the model `name`; raises UserError if it needs references."""
        checkpoint = comet_checkpoint(name)
        self.model = _on_device(read_comet(checkpoint))
        if self.model.requires_references():
            raise UserError(
                f"--qe-comet {name} needs references; give a reference-free model such as Unbabel/wmt20-comet-qe-da"
            )
        self.settings = {"quality": f"COMET {file_hash(checkpoint)}", "precision": str(self.model.dtype)}

    def score(self, entries: list[Texts]) -> list[list[float]]:
        """Return for each source the scores of its hypotheses."""
        samples = [{"src": source, "mt": text} for source, hypotheses in entries for text in hypotheses]
        gpus = 1 if torch.cuda.is_available() else 0
        options = {"batch_size": BATCH_SIZE, "gpus": gpus, "progress_bar": False, "num_workers": 0}
        scores = iter(self.model.predict(samples, **options).scores if samples else ())
        return [[float(next(scores)) for _ in hypotheses] for _, hypotheses in entries]


class PairScorer(Protocol):
    """The part of a translator that scores translations."""

    settings: dict  # that determine the scores, with the following
    languages: tuple[str, str]
    longest_source: int

    def score(self, sources: list[str], translations: list[str]) -> list[float]:
        """Return for each pair of texts the log-probability of the translation, divided by its number of tokens."""


class ReverseScorer:
    """The length-normalised log-probability of a source given a hypothesis."""

    name = "reverse"

    def __init__(self, model: PairScorer):
        """`model` translates in the reverse direction."""
        self.model = model
        self.settings = {
            **model.settings,
            "languages": "-".join(model.languages),
            "longest_source": model.longest_source,
        }

    def score(self, entries: list[Texts]) -> list[list[float]]:
        """Return for each source its scores given each hypothesis."""
        pairs = [(text, source) for source, hypotheses in entries for text in hypotheses]
        scores = iter(self.model.score([text for text, _ in pairs], [source for _, source in pairs]) if pairs else ())
        return [[next(scores) for _ in hypotheses] for _, hypotheses in entries]


def _on_device(model: Any) -> Any:
    """Return the model on this worker's GPU in half precision, or on the CPU in single precision."""
    device = device_of_worker()
    return model.to(device, torch.float16 if device.type == "cuda" else torch.float32)


def _means(utilities: list[list[float]]) -> list[float]:
    """Return the mean of each row without its diagonal element, summed exactly: equal texts have equal means."""
    if len(utilities) == 1:
        return [0.0]
    return [math.fsum(chain(row[:number], row[number + 1 :])) / (len(row) - 1) for number, row in enumerate(utilities)]


def scores_of_texts(scorer: Scorer, entries: list[Texts]) -> list[list[float]]:
    """Return the scores of hypotheses by `scorer`, or minus infinity where the source or the hypothesis is empty.

    The scorer never sees empty texts, so empty hypotheses have no vote in MBR decoding.
    """
    written = [(source, [text for text in texts if source and text]) for source, texts in entries]
    found = [iter(scores) for scores in scorer.score(written)]
    return [
        [finite(float(next(scores))) if source and text else -math.inf for text in texts]
        for (source, texts), scores in zip(entries, found, strict=True)
    ]


def finite(score: float) -> float:
    """Return a score, or minus infinity if it is not a number."""
    return -math.inf if math.isnan(score) else score
