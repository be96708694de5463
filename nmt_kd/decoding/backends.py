"""Choose the beam search: fairseq's, or CTranslate2's on a converted model."""

import logging
from pathlib import Path

from fairseq.dataclass.configs import GenerationConfig

from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.data import dictionary_checksum
from nmt_kd.decoding.ctranslate2_backend import CTranslate2Backend, converted_model, why_not_ctranslate2
from nmt_kd.decoding.decoder import Backend
from nmt_kd.decoding.fairseq_backend import FairseqBackend
from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)


def choose_backend(
    wanted: str,
    fairseq: FairseqBackend,
    generation: GenerationConfig,
    checkpoints: list[str],
    data: str,
    compute_type: str,
) -> Backend:
    """Return the backend that `wanted` names: fairseq, ctranslate2, or auto, which prefers ctranslate2.

    `compute_type` is CTranslate2's precision, and `data` the binarised data with the dictionaries. Raises UserError if
    CTranslate2 is wanted but cannot be used.
    """
    if wanted == "fairseq":
        return fairseq
    reason = why_not_ctranslate2(generation, checkpoints)
    if reason is None:
        task, cfg = fairseq.task, fairseq.task.cfg
        vocabularies = [dictionary_checksum(each) for each in (task.source_dictionary, task.target_dictionary)]
        fingerprint = "-".join([file_hash(Path(checkpoints[0])), *vocabularies])
        try:
            folder = converted_model(checkpoints[0], data, cfg.source_lang, cfg.target_lang, fingerprint)
            return CTranslate2Backend(folder, compute_type, generation, fairseq)
        except UserError as error:
            reason = str(error)
    if wanted == "ctranslate2":
        raise UserError(f"--distill-backend ctranslate2 cannot be used: {reason}")
    logger.warning(f"decoding with fairseq because CTranslate2 cannot be used: {reason}")
    return fairseq
