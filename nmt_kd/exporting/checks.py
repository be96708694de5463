"""Check the user's input: the checkpoint, its data and the output folder."""

import json
from pathlib import Path

from nmt_kd.errors import UserError
from nmt_kd.exporting.summary import MARK, SUMMARY


def check_output(output: Path, fingerprint: str) -> None:
    """Raise UserError if `output` exists, unless it is empty or an export of the checkpoint with this hash."""
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file; --output must be a folder")
    if not any(output.iterdir()):
        return
    elsewhere = "give another --output"
    try:
        summary = json.loads((output / SUMMARY).read_text(encoding="utf-8"))
        earlier, own, _ = summary["checkpoint_sha256"], summary["files"], summary[MARK]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{output} exists and was not written by nmt-kd export; {elsewhere}") from None
    if earlier != fingerprint:
        raise UserError(f"{output} is the export of another checkpoint, {summary['checkpoint']}; {elsewhere}")
    foreign = sorted(set(files_in(output)) - set(own))
    if foreign:
        raise UserError(f"{output} contains {foreign[0]}, which nmt-kd export did not write; move it, or {elsewhere}")


def files_in(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, relative to it and sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
