"""Exports of the tests' small students."""

from pathlib import Path

import pytest

from nmt_kd.exporting import page, speed
from nmt_kd.exporting.export import export
from nmt_kd.exporting.sample import Measurement
from nmt_kd.exporting.summary import Summary

SEARCH = Measurement(beam=3)


def export_student(corpus: Path, checkpoint: Path, output: Path, **changes) -> Summary:
    """Export a student as float32, measured on all test sentences, with some arguments of `export` changed.

    Few sentences are timed alone and few trials of the significance tests made, to save time.
    """
    arguments = {
        "checkpoint": checkpoint,
        "data": str(corpus / "data-bin"),
        "subword_model": corpus / "pieces/subwords.model",
        "compute_types": ["float32"],
        "output": output,
        "measurement": SEARCH,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SINGLE_SENTENCES", 2)
        patch.setattr(page, "TRIALS", 10)
        return export(**{**arguments, **changes})
