"""Convert a fairseq checkpoint to CTranslate2."""

import logging
from pathlib import Path

from fairseq.tasks.translation import TranslationTask

from nmt_kd.decoding.ctranslate2_backend import why_not_ctranslate2
from nmt_kd.errors import UserError
from nmt_kd.exporting.sample import Measurement
from nmt_kd.exporting.systems import generation_settings
from nmt_kd.options import one_of, require

logger = logging.getLogger(__name__)


def check_ctranslate2(checkpoint: str, compute_types: list[str], measurement: Measurement) -> None:
    """Raise UserError if CTranslate2 is not installed, or does not support a compute type or the search settings."""
    reason = why_not_ctranslate2(generation_settings(measurement), checkpoint.split(":"))
    if reason:
        raise UserError(f"CTranslate2 cannot be used: {reason}")
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    allowed = one_of(*ACCEPTED_MODEL_TYPES)
    for compute_type in compute_types:
        require(allowed.holds(compute_type), "--compute-types", compute_type, allowed.words)


def convert(checkpoint: Path, task: TranslationTask, compute_type: str, folder: Path) -> None:
    """Write the checkpoint as a CTranslate2 model to `folder`; UserError if CTranslate2 cannot convert it."""
    from ctranslate2.converters import FairseqConverter

    logger.info(f"converting {checkpoint} to {compute_type}")
    converter = FairseqConverter(str(checkpoint), task.cfg.data, task.cfg.source_lang, task.cfg.target_lang)
    try:
        converter.convert(str(folder), quantization=compute_type)
    except (ValueError, KeyError, AttributeError, TypeError, RuntimeError, FileNotFoundError) as error:
        detail = " ".join(str(error).split())[:300]
        raise UserError(f"CTranslate2 cannot convert {checkpoint}: {detail}; keep using fairseq") from None
