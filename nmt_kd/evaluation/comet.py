"""COMET (Rei et al., 2020), a learned metric, through unbabel-comet."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from nmt_kd.errors import UserError
from nmt_kd.evaluation.metrics import SegmentMean

logger = logging.getLogger(__name__)

BATCH_SIZE = 16  # as in comet-score


def load_comet(name: str):
    """Load a COMET model, given its name on the Hugging Face hub or, without a network, a folder or a checkpoint file.

    The model is in half precision, as in comet-score 2.2.7, so that the scores are the same. Raises UserError if
    unbabel-comet is not installed, or if the model is neither on disk nor can be downloaded.
    """
    try:
        import comet
    except ImportError as error:
        if error.name and error.name.partition(".")[0] not in ("comet", "pkg_resources"):
            raise
        raise UserError("COMET is not installed; pip install 'nmt-kd[comet]'") from None
    return comet.load_from_checkpoint(str(_checkpoint(name, comet))).eval().half()


def _checkpoint(name: str, comet) -> Path:
    local = Path(name)
    if local.is_dir():
        local = local / "checkpoints/model.ckpt"
    if local.is_file():
        if not (local.parents[1] / "hparams.yaml").is_file():
            raise UserError(f"{local.parents[1]} has no hparams.yaml; put the model's there, next to checkpoints/")
        return local
    if local.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise UserError(
            f"COMET model {name} does not exist; give a folder with hparams.yaml and checkpoints/model.ckpt"
        )
    try:
        return Path(comet.download_model(name))
    except Exception as error:  # from the hub, the network or the file system
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"cannot download the COMET model {name} ({reason}); on a machine with a network, download hparams.yaml "
            f"and checkpoints/model.ckpt from https://huggingface.co/{name} into a folder, and give the path of that "
            "folder instead of the name"
        ) from None


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
    """Return a metric for each model, keyed by the model's name without its owner."""
    titles = {name: f"COMET {name.rstrip('/').rpartition('/')[2]}" for name in models}
    return {
        title: SegmentMean(title, segment_scorer(load_comet(name), sources, references))
        for name, title in titles.items()
    }
