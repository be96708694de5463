"""The task that decodes a set with the teacher, for sequence-level distillation (Kim & Rush, 2016).

    fairseq-generate data-bin --user-dir nmt_kd --task seq_kd --gen-subset train --path teacher.pt \\
        --beam 4 --lenpen 0.6 --nbest 4 --distill-dir kd
"""

import logging
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Optional

import numpy
import torch
from fairseq import utils
from fairseq.data import FairseqDataset
from fairseq.dataclass.configs import GenerationConfig
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import II

from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.data import dictionary_checksum, opening_subset, source_checksum, subwords
from nmt_kd.decoding.backends import (
    Backend,
    CTranslate2Backend,
    FairseqBackend,
    converted_model,
    why_not_ctranslate2,
)
from nmt_kd.decoding.first_choices import first_choices
from nmt_kd.decoding.loops import has_loop
from nmt_kd.decoding.shards import Blocks, Decoded, Hypothesis, ShardFolder
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1, check_options, one_of, option
from nmt_kd.storage.manifest import SentenceReport
from nmt_kd.workers import device_of_worker, which_worker

logger = logging.getLogger(__name__)

# fairseq's settings of the search, without those that decide about printing alone
PRINTING = {"_name", "print_alignment", "print_step", "replace_unk", "sacrebleu", "score_reference", "no_seed_provided"}
SEARCH = [name for name in GenerationConfig.__dataclass_fields__ if name not in PRINTING]


@dataclass
class SeqKDConfig(TranslationConfig):
    distill_dir: Optional[str] = option(None, "folder for the decoded sentences (required); go on where it ends")
    distill_backend: str = option(
        "fairseq",
        "what decodes: fairseq, ctranslate2, or auto, which is ctranslate2 where it is installed and knows the model",
        one_of("fairseq", "ctranslate2", "auto"),
    )
    distill_compute_type: str = option(
        "default", "precision of ctranslate2: float32, float16, int8, ...; default keeps the model's"
    )
    distill_block_sentences: int = option(
        1000, "sentences decoded and saved together; a worker that is killed loses at most one such block", AT_LEAST_1
    )
    distill_too_long: str = option(
        "error",
        "what to do with sources that are longer than the teacher can read: error, skip or truncate",
        one_of("error", "skip", "truncate"),
    )
    distill_first_choices: bool = option(
        False,
        "also note for each token of the best hypothesis whether it is the teacher's first choice (needs a "
        "forward pass more)",
    )
    # what fairseq-generate was called with
    distill_path: Optional[str] = II("common_eval.path")
    distill_subset: str = II("dataset.gen_subset")
    distill_num_shards: int = II("dataset.num_shards")
    distill_shard_id: int = II("dataset.shard_id")
    distill_max_tokens: Optional[int] = II("dataset.max_tokens")
    distill_batch_size: Optional[int] = II("dataset.batch_size")
    distill_buffer_size: int = II("interactive.buffer_size")
    distill_seed: int = II("common.seed")


@register_task("seq_kd", dataclass=SeqKDConfig)
class SeqKDTask(TranslationTask):
    """Translation, but what fairseq-generate decodes goes to --distill-dir instead of the screen."""

    def __init__(self, cfg: SeqKDConfig, src_dict, tgt_dict):
        super().__init__(cfg, src_dict, tgt_dict)
        if not cfg.distill_dir:
            raise UserError("seq_kd needs a folder for what it decodes; give --distill-dir")
        check_options(cfg, SeqKDConfig)
        self.worker, self.workers = which_worker(cfg.distill_shard_id, cfg.distill_num_shards)
        self.typed, self.typed_sentences = None, 0
        device_of_worker()

    def load_dataset(self, split, epoch=1, combine=False, **kwargs):
        """fairseq's; UserError where the subset cannot be decoded."""
        with opening_subset(self.cfg.data, split, self.cfg.source_lang, self.cfg.target_lang):
            super().load_dataset(split, epoch, combine, **kwargs)

    # fairseq-generate builds the iterator first, then the generator, and then asks the iterator for batches.

    def get_batch_iterator(self, dataset, *args, max_positions=None, **kwargs):
        """An iterator that decodes `dataset` into the folder when it is gone through, and hands out nothing."""
        decoding = _TypedDecoding if dataset is self.typed else _Decoding
        return decoding(self, dataset, max_positions)

    def build_dataset_for_inference(self, src_tokens, src_lengths, **kwargs):
        """What fairseq-interactive has read."""
        self.typed = super().build_dataset_for_inference(src_tokens, src_lengths, **kwargs)
        return self.typed

    def build_generator(self, models, args, *rest, **kwargs):
        """fairseq's generator, as always; the task keeps what it needs to decode by itself."""
        generator = super().build_generator(models, args, *rest, **kwargs)
        self.models, self.generation, self.generator = models, args, generator
        return generator

    @cached_property
    def backend(self) -> tuple[str, Backend]:
        """The backend that was asked for, behind its name."""
        wanted = self.cfg.distill_backend
        if wanted != "fairseq":
            reason = why_not_ctranslate2(self.generation, self.cfg.distill_path.split(":"))
            if reason is None:
                try:
                    return "ctranslate2", self._ctranslate2()
                except UserError as error:
                    reason = str(error)
            if wanted == "ctranslate2":
                raise UserError(f"--distill-backend ctranslate2 cannot be used: {reason}")
            logger.warning(f"decoding with fairseq, for CTranslate2 cannot be used: {reason}")
        return "fairseq", self._fairseq()

    def _fairseq(self) -> FairseqBackend:
        max_sentences = self.cfg.distill_batch_size
        max_tokens = self.cfg.distill_max_tokens or (None if max_sentences else 12000)
        return FairseqBackend(self, self.models, self.generator, self.generation.nbest, max_tokens, max_sentences)

    def _ctranslate2(self) -> CTranslate2Backend:
        checkpoint, data = self.cfg.distill_path, self.cfg.data.split(os.pathsep)[0]
        fingerprint = file_hash(Path(checkpoint))
        folder = converted_model(checkpoint, data, self.cfg.source_lang, self.cfg.target_lang, fingerprint)
        return CTranslate2Backend(folder, self.compute_type, self.generation, self._fairseq())

    @property
    def compute_type(self) -> str:
        """CTranslate2's precision: the one that was asked for, or the model's."""
        return self.precision if self.cfg.distill_compute_type == "default" else self.cfg.distill_compute_type

    @property
    def precision(self) -> str:
        """The precision of the teacher's parameters, as torch calls it."""
        return str(next(self.models[0].parameters()).dtype).removeprefix("torch.")


class _Decoding:
    """The decoding of a set, in the place of fairseq's iterator over batches."""

    def __init__(self, task: SeqKDTask, dataset: FairseqDataset, max_positions):
        self.task, self.dataset = task, dataset
        self.longest_source = min(max_positions[0], task.max_positions()[0])
        self.folder = ShardFolder(task.cfg.distill_dir)
        self.blocks = Blocks(dataset.src_sizes, self.block_sentences)
        self.counts = {"sentences that are too long": 0, "repetition loops": 0}

    @property
    def block_sentences(self) -> int:
        """How many sentences are decoded and saved together."""
        return self.task.cfg.distill_block_sentences

    def next_epoch_itr(self, shuffle=False):
        """fairseq's way to ask for an iterator."""
        return self

    def __len__(self) -> int:
        return len(self.blocks.of_worker(self.task.worker, self.task.workers))

    def __iter__(self):
        """Hand fairseq-generate one batch without content for each block, and end the program.

        fairseq-generate would go on to divide by the time it took to decode, which is none of its own.
        """
        name, backend = self.task.backend
        self.folder.claim(self.settings(name))
        own = self.blocks.of_worker(self.task.worker, self.task.workers)
        missing = [block for block in own if not self.folder.is_complete(block)]
        logger.info(
            f"worker {self.task.worker + 1} of {self.task.workers}: {len(missing)} of {len(own)} blocks to decode"
        )
        progress = SentenceReport(sum(len(self.blocks.sentences(block)) for block in missing))
        for block in missing:
            numbers = self.blocks.sentences(block)
            self.folder.write(block, self.decode(backend, numbers, block))
            progress.add(len(numbers))
            yield {}
        self.report_counts(backend)
        logger.info(f"decoded {progress.done} sentences into {self.folder.folder}; go on with nmt-kd assemble")
        raise SystemExit(0)

    def report_counts(self, backend: Backend) -> None:
        """Say what did not go as it should."""
        for what, count in {**self.counts, **backend.counts}.items():
            if count:
                logger.warning(f"{what}: {count}")

    def settings(self, backend: str) -> dict:
        """All that decides what the shards hold."""
        cfg, generation = self.task.cfg, self.task.generation
        search = {name: _as_json(getattr(generation, name, None)) for name in SEARCH}
        if generation.sampling:
            search["seed"] = cfg.distill_seed
        return {
            "languages": f"{cfg.source_lang}-{cfg.target_lang}",
            "source_dictionary": dictionary_checksum(self.task.source_dictionary),
            "target_dictionary": dictionary_checksum(self.task.target_dictionary),
            **self.data_settings(),
            "teacher": "+".join(file_hash(Path(path)) for path in cfg.distill_path.split(":")),
            "backend": backend,
            "precision": self.task.compute_type if backend == "ctranslate2" else self.task.precision,
            **search,
            "max_tokens": cfg.distill_max_tokens,
            "batch_size": cfg.distill_batch_size,
            "too_long": cfg.distill_too_long,
            "longest_source": self.longest_source,
            "first_choices": cfg.distill_first_choices,
        }

    def data_settings(self) -> dict:
        """Which sentences are decoded, and how they are cut into blocks."""
        sizes = torch.from_numpy(numpy.ascontiguousarray(self.dataset.src_sizes, dtype="<i8"))
        return {
            "subset": self.task.cfg.distill_subset,
            "sentences": len(sizes),
            "source_lengths": source_checksum(sizes),
            "block_sentences": self.blocks.block_sentences,
        }

    def decode(self, backend: Backend, numbers: numpy.ndarray, block: int) -> list[Decoded]:
        """The sentences of a block with their hypotheses; a source that is too long and skipped has none."""
        if self.task.generation.sampling:  # what a block holds must not depend on those before it
            utils.set_torch_seed(self.task.cfg.distill_seed + block)
        too_long = self.dataset.src_sizes[numbers] > self.longest_source
        self._report_too_long(numbers[too_long])
        dataset, decodable = self.dataset, numbers[~too_long]
        if too_long.any() and self.task.cfg.distill_too_long == "truncate":
            dataset, decodable = _Truncated(self.dataset, self.longest_source), numbers
        lists = dict(zip(decodable.tolist(), backend.decode(dataset, decodable), strict=True))
        self.counts["repetition loops"] += sum(has_loop(found[0].text.split(" ")) for found in lists.values() if found)
        notes = self._first_choices(dataset, decodable, lists) if self.task.cfg.distill_first_choices else {}
        return [
            Decoded(
                number,
                source_checksum(self.dataset[number]["source"]),
                lists.get(number, []),
                notes.get(number, {}),
            )
            for number in numbers.tolist()
        ]

    def _report_too_long(self, numbers: numpy.ndarray) -> None:
        if len(numbers) == 0:
            return
        shown = ", ".join(str(number) for number in numbers[:5])
        what = f"source sentences (numbers {shown}{', ...' if len(numbers) > 5 else ''}) are longer than the teacher's "
        what += f"{self.longest_source} positions"
        if self.task.cfg.distill_too_long == "error":
            raise UserError(f"{len(numbers)} {what}; give --distill-too-long skip or truncate")
        self.counts["sentences that are too long"] += len(numbers)
        logger.warning(f"{len(numbers)} {what}")

    def _first_choices(self, dataset, numbers, lists: dict[int, list[Hypothesis]]) -> dict[int, dict]:
        best = {number: lists[number][0].text for number in numbers.tolist()}
        marks = first_choices(self.task, self.task.models, dataset, best, self.task.cfg.distill_max_tokens or 12000)
        return {number: {"first_choices": text} for number, text in marks.items()}


class _TypedDecoding(_Decoding):
    """What fairseq-interactive has read at once (--buffer-size) is a block; its sources are kept with it."""

    def __iter__(self):
        name, backend = self.task.backend
        self.folder.claim(self.settings(name))
        numbers, first = self.blocks.sentences(0), self.task.typed_sentences
        block = first // self.blocks.block_sentences
        self.task.typed_sentences += len(numbers)
        if not (self.folder.is_complete(block) and self.holds_all(block, first)):
            decoded = self.decode(backend, numbers, block)
            texts = {
                number: subwords(self.task.source_dictionary, self.dataset[number]["source"]) for number in numbers
            }
            self.folder.write(
                block,
                [
                    replace(sentence, id=first + sentence.id, notes={"text": texts[sentence.id], **sentence.notes})
                    for sentence in decoded
                ],
            )
            self.report_counts(backend)
        logger.info(f"{self.task.typed_sentences:,} sentences are in {self.folder.folder}")
        yield from ()

    @property
    def block_sentences(self) -> int:
        """As many as are read at once."""
        return self.task.cfg.distill_buffer_size

    def holds_all(self, block: int, first: int) -> bool:
        """Whether a finished block has all sentences that were read now, which an earlier input may have ended before.

        UserError where it has others.
        """
        finished = list(self.folder.read(block))
        for sentence in finished:
            index = sentence.id - first
            if index >= len(self.dataset) or source_checksum(self.dataset[index]["source"]) != sentence.source:
                raise UserError(
                    f"line {sentence.id + 1} of the input is not the one decoded into {self.folder.folder} before; "
                    "give the same input to go on, or another --distill-dir"
                )
        return len(finished) == len(self.dataset)

    def data_settings(self) -> dict:
        """The number of sentences is not known before the input ends."""
        return {"subset": None, "sentences": None, "block_sentences": self.blocks.block_sentences}


def _as_json(value):
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class _Truncated:
    """A data set whose sources are cut to a length, their end of sentence kept."""

    def __init__(self, dataset: FairseqDataset, length: int):
        self.dataset, self.length = dataset, length
        self.collater = dataset.collater

    @property
    def src_sizes(self) -> numpy.ndarray:
        """The lengths after cutting."""
        return numpy.minimum(self.dataset.src_sizes, self.length)

    def __getitem__(self, number):
        item = self.dataset[number]
        source = item["source"]
        if len(source) <= self.length:
            return item
        return {**item, "source": torch.cat([source[: self.length - 1], source[-1:]])}
