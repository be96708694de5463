"""Decode with CTranslate2, on a model that is converted once and kept."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from fairseq.data import FairseqDataset

from nmt_kd.checkpoints.reading import mapping
from nmt_kd.decoding.fairseq_backend import FairseqBackend
from nmt_kd.decoding.int8 import quantise
from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.errors import UserError, in_one_line
from nmt_kd.storage.atomic import atomic_folder
from nmt_kd.workers import usable_cores

logger = logging.getLogger(__name__)

CPU_BATCH_TOKENS = 1024  # larger batches are no faster, and leave processors idle at the end of a block
INT8_ON_CPUS = ("int8", "int8_float32")  # the other types of int8 are for GPUs, whose products do not overflow
AT_THE_LIMIT = "sentences decoded again by fairseq at the length limit"


class CTranslate2Backend:
    """CTranslate2's beam search on a converted model.

    At the length limit, fairseq appends the end of the sentence to a hypothesis and scores it; CTranslate2 does not. So
    sentences with a hypothesis of that length are decoded again by fairseq.
    """

    name = "ctranslate2"

    def __init__(self, model_folder: Path, compute_type: str, generation, fairseq: FairseqBackend):
        self.generation, self.fairseq, self.precision = generation, fairseq, compute_type
        self.symbols = fairseq.task.source_dictionary.symbols
        device = fairseq.parameter.device.type
        self.max_tokens = batch_tokens(fairseq.max_tokens or 12000, device)
        self.translator = load_translator(model_folder, device, compute_type)
        self.longest = min(generation.max_len_b, fairseq.generator.max_len - 1)  # tokens, as in fairseq
        self.counts = {AT_THE_LIMIT: 0}

    def decode(self, dataset: FairseqDataset, numbers: numpy.ndarray) -> list[list[Hypothesis]]:
        """Return the n-best lists of these sentences; raises UserError if CTranslate2 fails."""
        sources = [[self.symbols[token] for token in dataset[number]["source"].tolist()[:-1]] for number in numbers]
        try:
            results = self.translator.translate_batch(
                sources,
                beam_size=self.generation.beam,
                num_hypotheses=self.generation.nbest,
                length_penalty=self.generation.lenpen,
                max_decoding_length=self.longest,
                min_decoding_length=self.generation.min_len,
                no_repeat_ngram_size=self.generation.no_repeat_ngram_size,
                max_input_length=0,
                return_scores=True,
                max_batch_size=self.max_tokens,
                batch_type="tokens",
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"CTranslate2 cannot translate: {in_one_line(error)}; decode with --distill-backend fairseq"
            ) from None
        lists = [
            [Hypothesis(score, " ".join(tokens)) for score, tokens in zip(found.scores, found.hypotheses, strict=True)]
            for found in results
        ]
        unfinished = [
            index for index, found in enumerate(results) if max(map(len, found.hypotheses), default=0) >= self.longest
        ]
        if unfinished:
            self.counts[AT_THE_LIMIT] += len(unfinished)
            again = self.fairseq.decode(dataset, numbers[unfinished])
            for index, hypotheses in zip(unfinished, again, strict=True):
                lists[index] = hypotheses
        return lists


def batch_tokens(max_tokens: int, device: str) -> int:
    """Return how many tokens CTranslate2 should have in a batch, where at most `max_tokens` are wanted."""
    return max_tokens if device == "cuda" else min(max_tokens, CPU_BATCH_TOKENS)


def load_translator(folder: Path, device: str, compute_type: str, one_worker: bool = False) -> Any:
    """Load a converted model on torch's current GPU ("cuda") or the "cpu"; UserError if it cannot be loaded.

    On a CPU it has a worker for each core, or `one_worker` with all cores.
    """
    import ctranslate2

    cores, threads = usable_cores(), dict[str, int]()
    if device == "cpu":
        threads = {"inter_threads": 1 if one_worker else cores, "intra_threads": cores if one_worker else 1}
    try:
        return ctranslate2.Translator(
            str(folder),
            device=device,
            device_index=torch.cuda.current_device() if device == "cuda" else 0,
            compute_type=compute_type,
            **threads,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"CTranslate2 cannot load {folder}: {in_one_line(error)}") from None


def why_not_ctranslate2(generation, paths: list[str]) -> str | None:
    """Return why CTranslate2 cannot decode with these settings and checkpoints, or None if it can."""
    try:
        import ctranslate2  # noqa: F401
    except ImportError:
        return "it is not installed (pip install 'nmt-kd[ctranslate2]')"
    if len(paths) > 1:
        return "it decodes with one model, not with an ensemble"
    unsupported = {
        "--sampling": generation.sampling,
        "--unkpen": generation.unkpen != 0,
        "--temperature": generation.temperature != 1,
        "--max-len-a": generation.max_len_a != 0,
        "--unnormalized": generation.unnormalized,
        "--prefix-size": generation.prefix_size != 0,
        "--match-source-len": generation.match_source_len,
        "--diverse-beam-groups": generation.diverse_beam_groups > 0,
        "--diversity-rate": generation.diversity_rate > -1,
        "--lm-path": generation.lm_path is not None,
    }
    wanted = [flag for flag, is_wanted in unsupported.items() if is_wanted]
    return f"it does not support fairseq's {wanted[0]}" if wanted else None


def converted_model(checkpoint: str, data: str, source_lang: str, target_lang: str, fingerprint: str) -> Path:
    """Return the folder of a checkpoint's CTranslate2 model, after converting it if that has not been done yet.

    `fingerprint` identifies the checkpoint and the dictionaries, both of which the model contains. Raises UserError if
    the architecture cannot be converted.
    """
    return kept_model(
        checkpoint, fingerprint, lambda folder: convert_checkpoint(checkpoint, data, source_lang, target_lang, folder)
    )


def convert_checkpoint(
    checkpoint: str, data: str, source_lang: str, target_lang: str, folder: Path, compute_type: str | None = None
) -> None:
    """Write a fairseq checkpoint as a CTranslate2 model to `folder`, by default in the precision of its weights.

    `data` is the folder with the dictionaries. For the types of int8 that CPUs use, `nmt_kd.decoding.int8` quantises
    the weights, not CTranslate2. Raises UserError if CTranslate2 cannot convert it.
    """
    from ctranslate2.converters import FairseqConverter

    try:
        converter = FairseqConverter(checkpoint, data, source_lang, target_lang)
        if compute_type in INT8_ON_CPUS:
            load, compute_type = converter._load, None
            converter._load = lambda: quantise(load())
        with mapping(checkpoint):  # which leaves the optimiser's state, most of the file, on disk
            converter.convert(str(folder), quantization=compute_type, force=True)
    except (ValueError, KeyError, AttributeError, TypeError, RuntimeError, FileNotFoundError) as error:
        raise UserError(f"CTranslate2 cannot convert {checkpoint}: {in_one_line(error)}; keep using fairseq") from None


def kept_model(name: str, fingerprint: str, convert: Callable[[Path], None]) -> Path:
    """Return the folder of a model for CTranslate2, after calling `convert` to write it if it does not exist yet.

    Models are kept in ~/.cache/nmt-kd, or under XDG_CACHE_HOME if that is set, each in a folder named by the
    `fingerprint` of the model that was converted, which messages call `name`. Raises UserError if it cannot be
    converted.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nmt-kd/ctranslate2"
    folder = cache / fingerprint
    if (folder / "model.bin").is_file():
        return folder
    logger.info(f"converting {name} for CTranslate2 into {folder}")
    try:
        with atomic_folder(folder, overwrite=False) as partial:
            convert(partial)
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise UserError(f"CTranslate2 cannot convert {name}: {in_one_line(error)}") from None
    return folder
