"""Check the user's input: what CTranslate2 supports, and the output folder."""

import json
from pathlib import Path

from nmt_kd.decoding.ctranslate2_backend import why_not_ctranslate2
from nmt_kd.decoding.settings import beam_search
from nmt_kd.errors import UserError
from nmt_kd.exporting.sample import Measurement
from nmt_kd.options import one_of
from nmt_kd.storage.kinds import EXPORT_MARK, EXPORT_SUMMARY

PROGRAM_CACHE = "__pycache__/translate."  # what Python leaves when it imports translate.py


def check_ctranslate2(checkpoint: str, compute_types: list[str], measurement: Measurement) -> None:
    """Raise UserError if CTranslate2 is not installed, or does not support a compute type or the search settings."""
    reason = why_not_ctranslate2(beam_search(measurement.beam, measurement.lenpen), checkpoint.split(":"))
    if reason:
        raise UserError(f"CTranslate2 cannot be used: {reason}")
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    allowed = one_of(*ACCEPTED_MODEL_TYPES)
    for compute_type in compute_types:
        allowed.check("--compute-types", compute_type)


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
        summary = json.loads((output / EXPORT_SUMMARY).read_text(encoding="utf-8"))
        earlier, own, _ = summary["checkpoint_sha256"], summary["files"], summary[EXPORT_MARK]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{output} exists and was not written by nmt-kd export; {elsewhere}") from None
    if earlier != fingerprint:
        raise UserError(f"{output} is the export of another checkpoint, {summary['checkpoint']}; {elsewhere}")
    found = [path for path in files_in(output) if not path.startswith(PROGRAM_CACHE)]
    foreign = sorted(set(found) - set(own))
    if foreign:
        raise UserError(f"{output} contains {foreign[0]}, which nmt-kd export did not write; move it, or {elsewhere}")


def files_in(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, relative to it and sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
