"""The settings in a decoding's manifest: everything that determines the decoded sentences."""

from pathlib import Path

import numpy
import torch
from fairseq.dataclass.configs import GenerationConfig
from fairseq.tasks.translation import TranslationTask
from omegaconf import DictConfig, OmegaConf

from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.data import dictionary_checksum, source_checksum
from nmt_kd.decoding.decoder import Backend
from nmt_kd.options import require

LONGEST_TRANSLATION = 200  # tokens, fairseq-generate's default

# fairseq's settings of the search, without those that only affect what is printed
PRINTING = {"_name", "print_alignment", "print_step", "replace_unk", "sacrebleu", "no_seed_provided"}
SEARCH = [name for name in GenerationConfig.__dataclass_fields__ if name not in PRINTING]


def beam_search(beam: int, lenpen: float, longest: int = LONGEST_TRANSLATION, nbest: int = 1) -> DictConfig:
    """Return fairseq's settings of a beam search whose translations have at most `longest` tokens."""
    return OmegaConf.structured(GenerationConfig(beam=beam, lenpen=lenpen, max_len_b=longest, nbest=nbest))


def decoding_settings(
    task: TranslationTask, generation: GenerationConfig, backend: Backend, longest_source: int, data: dict
) -> dict:
    """Return the settings of the seq_kd task `task`; `data` are those of `subset_settings` or `input_settings`."""
    cfg = task.cfg
    search = {name: _as_json(getattr(generation, name, None)) for name in SEARCH}
    if generation.sampling:
        search["seed"] = cfg.distill_seed
        search["batches"] = [cfg.distill_max_tokens, cfg.distill_batch_size]  # on which the random numbers depend
    return {
        "languages": pair_name(cfg.source_lang, cfg.target_lang),
        "source_dictionary": dictionary_checksum(task.source_dictionary),
        "target_dictionary": dictionary_checksum(task.target_dictionary),
        **data,
        "teacher": "+".join(file_hash(Path(path)) for path in cfg.distill_path.split(":")),
        "backend": backend.name,
        "precision": backend.precision,
        **search,
        "too_long": cfg.distill_too_long,
        "longest_source": longest_source,
        "first_choices": cfg.distill_first_choices,
    }


def pair_name(source_lang: str, target_lang: str) -> str:
    """Return the two languages as one name; raises UserError if they cannot be told apart in it."""
    for flag, language in (("--source-lang", source_lang), ("--target-lang", target_lang)):
        require("-" not in language, flag, language, "without a hyphen; write zh_TW, not zh-TW")
    return f"{source_lang}-{target_lang}"


def subset_settings(subset: str, source_sizes: numpy.ndarray, block_sentences: int) -> dict:
    """Return the settings of a binarised subset: its sentences, and how they are divided into blocks."""
    sizes = torch.from_numpy(numpy.ascontiguousarray(source_sizes, dtype="<i8"))
    return {
        "subset": subset,
        "sentences": len(sizes),
        "source_lengths": source_checksum(sizes),
        "block_sentences": block_sentences,
    }


def input_settings(block_sentences: int) -> dict:
    """Return the settings of fairseq-interactive's input, whose length is not known beforehand."""
    return {"subset": None, "sentences": None, "block_sentences": block_sentences}


def _as_json(value):
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
