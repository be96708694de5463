"""COMET (Rei et al., 2020), a learned metric, through unbabel-comet."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from nmt_kd.errors import UserError
from nmt_kd.evaluation.metrics import SegmentMean

logger = logging.getLogger(__name__)

BATCH_SIZE = 16  # comet-score's


def load_comet(name: str):
    """A COMET model by its name on the Hugging Face hub, or from a folder or a file of a checkpoint (no network).

    In half precision, as comet-score 2.2.7 has it, so that scores are the same.
    Raises UserError where unbabel-comet is missing, or the model is not there and cannot be downloaded.
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
            raise UserError(f"{local.parents[1]} lacks the model's hparams.yaml; put it there, beside checkpoints/")
        return local
    if local.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise UserError(f"there is no COMET model {name}; give a folder with hparams.yaml and checkpoints/model.ckpt")
    try:
        return Path(comet.download_model(name))
    except Exception as error:  # of the hub, of the network, of the file system
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"cannot download the COMET model {name} ({reason}); on a machine with a network, get hparams.yaml and "
            f"checkpoints/model.ckpt from https://huggingface.co/{name} into a folder, and give the folder's path "
            "in place of the name"
        ) from None


def segment_scorer(model, sources: Sequence[str], references: Sequence[str]) -> Callable[[Sequence[str]], list[float]]:
    """What scores a system's hypotheses sentence by sentence, on a GPU where there is one."""

    def score(hypotheses: Sequence[str]) -> list[float]:
        samples = [
            {"src": source.strip(), "mt": hypothesis.strip(), "ref": reference.strip()}
            for source, hypothesis, reference in zip(sources, hypotheses, references, strict=True)
        ]
        gpus = 1 if torch.cuda.is_available() else 0
        return list(model.predict(samples, batch_size=BATCH_SIZE, gpus=gpus, progress_bar=False).scores)

    return score


def comet_metrics(models: Sequence[str], sources: Sequence[str], references: Sequence[str]) -> dict[str, SegmentMean]:
    """A metric for each model, by the model's name without its owner."""
    titles = {name: f"COMET {name.rstrip('/').rpartition('/')[2]}" for name in models}
    return {
        title: SegmentMean(title, segment_scorer(load_comet(name), sources, references))
        for name, title in titles.items()
    }
