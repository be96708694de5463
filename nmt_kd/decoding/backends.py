"""What decodes: fairseq's own beam search, or CTranslate2 on a converted model."""

import copy
import logging
import math
import os
import shutil
from pathlib import Path
from typing import Protocol

import numpy
import torch
from fairseq import utils
from fairseq.data import FairseqDataset

from nmt_kd.data import batches_by_tokens, subwords
from nmt_kd.decoding.loops import has_loop
from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)

CPU_BATCH_TOKENS = 1024  # more makes nothing faster and leaves processors without work at the end of a block


class Backend(Protocol):
    """Decodes some sentences of a data set."""

    def decode(self, dataset: FairseqDataset, numbers: numpy.ndarray) -> list[list[Hypothesis]]:
        """The n-best lists of the sentences with these numbers, which come sorted by length."""


class FairseqBackend:
    """fairseq's beam search with a guard: what float16 breaks is decoded again in float32."""

    def __init__(self, task, models: list, generator, nbest: int, max_tokens: int | None, max_sentences: int | None):
        self.task, self.models, self.generator, self.nbest = task, models, generator, nbest
        self.max_tokens, self.max_sentences = max_tokens, max_sentences
        self.parameter = next(models[0].parameters())
        self.in_float32: tuple | None = None
        self.counts = {"decoded again in float32": 0}

    def decode(self, dataset: FairseqDataset, numbers: numpy.ndarray) -> list[list[Hypothesis]]:
        """See Backend."""
        lists = []
        for batch in batches_by_tokens(dataset.src_sizes, numbers, self.max_tokens, self.max_sentences):
            found = self._search(dataset, batch, self.generator, self.models)
            if self.parameter.dtype == torch.float16:
                self._decode_broken_again(dataset, batch, found)
            lists += found
        return lists

    def _search(self, dataset, batch, generator, models) -> list[list[Hypothesis]]:
        sample = dataset.collater([dataset[number] for number in batch])
        if self.parameter.is_cuda:
            sample = utils.move_to_cuda(sample)
        row = {number: index for index, number in enumerate(sample["id"].tolist())}
        with torch.no_grad():
            found = generator.generate(models, sample)
        return [
            [self._hypothesis(item) for item in found[row[int(number)]][: self.nbest]] for number in batch
        ]  # the collater sorts by length once more

    def _hypothesis(self, item: dict) -> Hypothesis:
        tokens = item["tokens"].int().cpu()
        return Hypothesis(float(item["score"]), subwords(self.task.target_dictionary, tokens))

    def _decode_broken_again(self, dataset, batch, found: list[list[Hypothesis]]) -> None:
        broken = [index for index, hypotheses in enumerate(found) if _is_broken(hypotheses)]
        if not broken:
            return
        if self.in_float32 is None:
            models = [copy.deepcopy(model).float() for model in self.models]
            generator = copy.copy(self.generator)
            generator.model = type(self.generator.model)(models)
            self.in_float32 = generator, models
        self.counts["decoded again in float32"] += len(broken)
        again = self._search(dataset, batch[broken], *self.in_float32)
        for index, hypotheses in zip(broken, again, strict=True):
            found[index] = hypotheses


class CTranslate2Backend:
    """CTranslate2's beam search, on a model that is converted once and kept.

    fairseq ends a hypothesis that reaches the length limit and scores its end, CTranslate2 leaves it open; so what
    reaches the limit is decoded again by fairseq.
    """

    def __init__(self, model_folder: Path, compute_type: str, generation, fairseq: FairseqBackend):
        import ctranslate2

        self.generation, self.fairseq = generation, fairseq
        self.symbols = fairseq.task.source_dictionary.symbols
        on_gpu = fairseq.parameter.is_cuda
        wanted = fairseq.max_tokens or 12000
        self.max_tokens = wanted if on_gpu else min(wanted, CPU_BATCH_TOKENS)
        threads = {} if on_gpu else {"inter_threads": os.cpu_count() or 1, "intra_threads": 1}
        self.translator = ctranslate2.Translator(
            str(model_folder),
            device="cuda" if on_gpu else "cpu",
            device_index=torch.cuda.current_device() if on_gpu else 0,
            compute_type=compute_type,
            **threads,
        )
        self.counts = {"decoded again by fairseq at the length limit": 0}

    def decode(self, dataset: FairseqDataset, numbers: numpy.ndarray) -> list[list[Hypothesis]]:
        """See Backend."""
        sources = [[self.symbols[token] for token in dataset[number]["source"].tolist()[:-1]] for number in numbers]
        results = self.translator.translate_batch(
            sources,
            beam_size=self.generation.beam,
            num_hypotheses=self.generation.nbest,
            length_penalty=self.generation.lenpen,
            max_decoding_length=self.generation.max_len_b,
            min_decoding_length=self.generation.min_len,
            no_repeat_ngram_size=self.generation.no_repeat_ngram_size,
            max_input_length=0,
            return_scores=True,
            max_batch_size=self.max_tokens,
            batch_type="tokens",
        )
        lists = [
            [Hypothesis(score, " ".join(tokens)) for score, tokens in zip(found.scores, found.hypotheses, strict=True)]
            for found in results
        ]
        limit = self.generation.max_len_b
        open_ended = [
            index for index, found in enumerate(results) if max(map(len, found.hypotheses), default=0) >= limit
        ]
        if open_ended:
            self.counts["decoded again by fairseq at the length limit"] += len(open_ended)
            again = self.fairseq.decode(dataset, numbers[open_ended])
            for index, hypotheses in zip(open_ended, again, strict=True):
                lists[index] = hypotheses
        return lists


def why_not_ctranslate2(generation, paths: list[str]) -> str | None:
    """What of these settings CTranslate2 cannot do, or None."""
    try:
        import ctranslate2  # noqa: F401
    except ImportError:
        return "it is not installed (pip install 'nmt-kd[ctranslate2]')"
    if len(paths) > 1:
        return "it decodes with one model, not with an ensemble"
    different = {
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
        "--constraints": generation.constraints is not None,
    }
    wanted = [flag for flag, is_wanted in different.items() if is_wanted]
    return f"it has no {wanted[0]} as fairseq has it" if wanted else None


def converted_model(checkpoint: str, data: str, source_lang: str, target_lang: str, fingerprint: str) -> Path:
    """The checkpoint as a CTranslate2 model, converted unless that was done before.

    Kept in ~/.cache/nmt-kd (XDG_CACHE_HOME names another place) under the checkpoint's hash. Raises UserError where the
    architecture cannot be converted.
    """
    from ctranslate2.converters import FairseqConverter

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nmt-kd/ctranslate2"
    folder = cache / fingerprint
    if (folder / "model.bin").is_file():
        return folder
    partial = cache / f"{fingerprint}.partial.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    logger.info(f"converting {checkpoint} for CTranslate2 into {folder}")
    try:
        FairseqConverter(checkpoint, data, source_lang, target_lang).convert(str(partial))
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"CTranslate2 cannot convert {checkpoint}: {detail}") from None
    try:
        partial.rename(folder)
    except OSError:  # another worker was faster
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _is_broken(hypotheses: list[Hypothesis]) -> bool:
    return any(not math.isfinite(item.score) or has_loop(item.text.split(" ")) for item in hypotheses)
