"""Load COMET models."""

from pathlib import Path
from typing import Any

from nmt_kd.errors import UserError, in_one_line


def load_comet(name: str) -> Any:
    """Load a COMET model, given its name on the Hugging Face hub or, without a network, a folder or a checkpoint file.

    The model is in half precision, as in comet-score 2.2.7, so that the scores are the same. Raises UserError if
    unbabel-comet is not installed, or if the model is neither on disk nor can be downloaded.
    """
    return read_comet(comet_checkpoint(name)).half()


def comet_checkpoint(name: str) -> Path:
    """Return the checkpoint of a model, which is downloaded if it is not on disk; see `load_comet` for the errors."""
    comet = _library()
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
        raise UserError(
            f"cannot download the COMET model {name} ({in_one_line(error)}); on a machine with a network, "
            f"download hparams.yaml and checkpoints/model.ckpt from https://huggingface.co/{name} into a folder, and "
            "give the path of that folder instead of the name"
        ) from None


def read_comet(checkpoint: Path) -> Any:
    """Return the model of a checkpoint, in the precision in which it is stored."""
    return _library().load_from_checkpoint(str(checkpoint)).eval()


def _library() -> Any:
    try:
        import comet
    except ImportError as error:
        if error.name and error.name.partition(".")[0] not in ("comet", "pkg_resources"):
            raise
        raise UserError("COMET is not installed; pip install 'nmt-kd[comet]'") from None
    return comet
