"""COMET (Rei et al., 2020), a learned metric, through unbabel-comet."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch

from nmt_kd.engine.comet import load_comet
from nmt_kd.evaluation.metrics import SegmentMean

BATCH_SIZE = 16  # as in comet-score


def segment_scorer(model, sources: Sequence[str], references: Sequence[str]) -> Callable[[Sequence[str]], list[float]]:
    """Return a function that scores a system's hypotheses sentence by sentence, on a GPU if there is one."""

    def score(hypotheses: Sequence[str]) -> list[float]:
        samples = [
            {"src": source.strip(), "mt": hypothesis.strip(), "ref": reference.strip()}
            for source, hypothesis, reference in zip(sources, hypotheses, references, strict=True)
        ]
        gpus = 1 if torch.cuda.is_available() else 0
        return list(model.predict(samples, batch_size=BATCH_SIZE, gpus=gpus, progress_bar=False).scores)

    return score


def comet_metrics(models: Sequence[str], sources: Sequence[str], references: Sequence[str]) -> dict[str, SegmentMean]:
    """Return a metric for each model, keyed by the model's name, without its owner or folder if that is unambiguous."""
    short = {name: name.rstrip("/").rpartition("/")[2] for name in models}
    count = Counter(short.values())
    titles = {name: f"COMET {base if count[base] == 1 else name}" for name, base in short.items()}
    return {
        title: SegmentMean(title, segment_scorer(load_comet(name), sources, references))
        for name, title in titles.items()
    }
