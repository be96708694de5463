"""Tell what a folder contains, for messages about a folder that was given in the wrong place."""

import json
from pathlib import Path

CACHE = "a cache of a teacher's predictions"
DECODING = "a folder of decoded sentences"
DATASTORE = "a datastore of decoder states"
NEIGHBOURS = "a folder of nearest neighbours"


def kind_of_folder(folder: Path) -> str | None:
    """Return what a folder contains, such as "a folder of checkpoints", or None if it is not recognised."""
    settings = _settings(folder)
    if (folder / "shards").is_dir() and settings:
        return DECODING
    if "top_k" in settings:
        return CACHE
    if "width" in settings:
        return DATASTORE
    if "neighbours" in settings:
        return NEIGHBOURS
    if any(folder.glob("[0-9]*.safetensors")):
        return "one subset of a cache"
    if any(folder.glob("dict.*.txt")):
        return "a folder of binarised data"
    if any(folder.glob("*.pt")):
        return "a folder of checkpoints"
    return None


def _settings(folder: Path) -> dict:
    try:
        settings = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}
