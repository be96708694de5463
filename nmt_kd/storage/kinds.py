"""Tell what a folder contains, for messages about a folder that was given in the wrong place."""

import json
from pathlib import Path

CACHE = "a cache of a teacher's predictions"
DECODING = "a folder of decoded sentences"
DATASTORE = "a datastore of decoder states"
NEIGHBOURS = "a folder of nearest neighbours"
EXPORT = "a folder that nmt-kd export wrote"

EXPORT_SUMMARY = "summary.json"
EXPORT_MARK = "nmt-kd export"  # the key that marks a summary.json as written by this command


def kind_of_folder(folder: Path) -> str | None:
    """Return what a folder contains, such as "a folder of checkpoints", or None if it is not recognised."""
    settings = _read(folder / "manifest.json")
    if is_export(folder):
        return EXPORT
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


def is_export(folder: Path) -> bool:
    """Tell whether nmt-kd export wrote a folder."""
    return EXPORT_MARK in _read(folder / EXPORT_SUMMARY)


def _read(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
