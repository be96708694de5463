"""Computing what a cache of predictions holds: one pass of the teacher over the data."""

import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from fairseq import utils
from fairseq.data import LanguagePairDataset
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, open_dict

from nmt_kd.caching.files import (
    FORMAT,
    Block,
    Sentences,
    SubsetFolder,
    cache_manifest,
    position_dtype,
    usual_block_sentences,
    word_dtype,
)
from nmt_kd.caching.reading import TRAINING_SUBSET, paddings
from nmt_kd.checkpoints.reading import read_checkpoint
from nmt_kd.checkpoints.task import task_on
from nmt_kd.data import batches_by_tokens, dictionary_checksum, opening_subset
from nmt_kd.engine.chunks import chunk_slices, default_chunk_tokens
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.options import require
from nmt_kd.storage.manifest import SentenceReport
from nmt_kd.workers import device_of_worker, which_worker

logger = logging.getLogger(__name__)

SENTENCES_COMPARED = 1000  # of a subset, to tell another data set with the same lengths
# Settings of a teacher's training that would change its sentences.
AS_ON_DISK = {"truncate_source": False, "load_alignments": False, "num_batch_buckets": 0}


def build_cache(
    teacher_path: str,
    data: str,
    out: Path,
    top_k: int,
    subsets: list[str],
    max_tokens: int = 4000,
    worker: int = 0,
    workers: int = 1,
    block_sentences: int | None = None,
) -> None:
    """Write the teacher's `top_k` words at every target position of `subsets` into the folder `out`.

    Computes the blocks that are missing, or as one of several workers its share of them, and says on standard error
    how far it is. `teacher_path` is a checkpoint or several, separated by ":" (an ensemble). Blocks have
    `block_sentences` sentences, by default so many that there are 200 at most. The bytes depend on the machine and
    `max_tokens` only in the last bits of what was computed, and not at all on the workers. Runs on a GPU where there
    is one. Raises UserError where the teacher does not fit the data, or `out` was made with anything else.
    """
    worker, workers = which_worker(worker, workers)
    require(max_tokens >= 1, "--max-tokens", max_tokens, "1 or more")
    if len(utils.split_paths(data)) > 1:
        raise UserError(f"{data} are several folders; predictions are cached for one, give the one to train on")
    checkpoint = teacher_path.split(":")[0]
    task = task_on(checkpoint, _as_on_disk(read_checkpoint(checkpoint)["cfg"]), data)
    size = len(task.target_dictionary)
    require(1 <= top_k <= size, "--top-k", top_k, f"from 1 to {size}, the size of the vocabulary")
    teacher = Teacher.load(teacher_path, task)
    datasets = {subset: open_subset(task, subset) for subset in subsets}
    cache_manifest(out).claim(_settings(task, teacher, top_k))
    builder = _Builder(task, teacher, top_k, max_tokens, device_of_worker())
    for subset, dataset in datasets.items():
        sentences = len(dataset)
        files = SubsetFolder(
            out / subset, sentences, block_sentences or usual_block_sentences(sentences), builder.position_dtype
        )
        cache_manifest(files.folder).claim(
            {"sentences": sentences, "block_sentences": files.block_sentences, "data": data_checksum(dataset)}
        )
        builder.build(files, dataset, worker, workers)


def _as_on_disk(configuration: DictConfig) -> DictConfig:
    with open_dict(configuration):
        for name, value in AS_ON_DISK.items():
            if getattr(configuration.task, name, None) is not None:
                setattr(configuration.task, name, value)
    return configuration


def _settings(task: FairseqTask, teacher: Teacher, top_k: int) -> dict:
    """All that decides what the blocks of every subset hold."""
    size = len(task.target_dictionary)
    return {
        "format": FORMAT,
        "teacher": teacher.fingerprint,
        "languages": f"{task.cfg.source_lang}-{task.cfg.target_lang}",
        "source_dictionary": dictionary_checksum(task.source_dictionary),
        "target_dictionary": dictionary_checksum(task.target_dictionary),
        "vocabulary_size": size,
        "top_k": top_k,
        "words": word_dtype(size).name,
        "log_probabilities": "float16",
        "rest": "float32",
    }


def open_subset(task: FairseqTask, subset: str) -> LanguagePairDataset:
    """A subset as fairseq-train opens it; UserError where it is not there or has nothing to predict."""
    data = task.cfg.data
    with opening_subset(data, subset, task.cfg.source_lang, task.cfg.target_lang):
        task.load_dataset(subset, combine=subset == TRAINING_SUBSET)  # train, train1, ...
    dataset = task.dataset(subset)
    if len(dataset) == 0:
        raise UserError(f"{subset} of {data} has no sentences; choose other subsets with --gen-subset")
    if dataset.tgt_sizes is None:
        raise UserError(f"{subset} of {data} has no targets; choose other subsets with --gen-subset")
    return dataset


def data_checksum(dataset: LanguagePairDataset) -> str:
    """A checksum of the lengths of all sentences, and of the tokens of some."""
    checksum = 0
    for sizes in (dataset.src_sizes, dataset.tgt_sizes):
        checksum = zlib.crc32(numpy.ascontiguousarray(sizes, dtype="<i8"), checksum)
    for number in numpy.linspace(0, len(dataset) - 1, min(len(dataset), SENTENCES_COMPARED)).astype(numpy.int64):
        item = dataset[number]
        for side in ("source", "target"):
            checksum = zlib.crc32(numpy.ascontiguousarray(item[side].numpy(), dtype="<i8"), checksum)
    return f"{checksum:08x}"


@dataclass(frozen=True)
class _Builder:
    """A teacher, and how much of what it says is kept."""

    task: FairseqTask
    teacher: Teacher
    top_k: int
    max_tokens: int
    device: torch.device

    @property
    def position_dtype(self) -> numpy.dtype:
        return position_dtype(self.top_k, len(self.task.target_dictionary))

    def build(self, files: SubsetFolder, dataset: LanguagePairDataset, worker: int, workers: int) -> None:
        """Compute the blocks of a subset that are missing and this worker's."""
        own = files.of_worker(worker, workers)
        missing = [block for block in own if not files.is_complete(block)]
        name = files.folder.name
        logger.info(f"{name}: worker {worker + 1} of {workers}: {len(missing)} of {len(own)} blocks to compute")
        if too_long := int((~self.readable(dataset.src_sizes, dataset.tgt_sizes)).sum()):
            longest = " and ".join(map(str, self.teacher.max_positions()))
            logger.warning(
                f"{name}: {too_long} sentences are longer than the {longest} positions of the teacher and stay without "
                "predictions; fairseq-train leaves them out where the student has as many"
            )
        progress = SentenceReport(sum(len(files.numbers(block)) for block in missing), name)
        for block in missing:
            files.write(block, self.block(dataset, files.numbers(block), progress))
        left = files.missing()
        logger.info(f"{name}: {left} blocks are left to other workers" if left else f"{name}: all is in {files.folder}")

    def readable(self, source_sizes: numpy.ndarray, target_sizes: numpy.ndarray) -> numpy.ndarray:
        """Whether the teacher has positions for all tokens of sentences of these lengths, bool [sentences]."""
        longest_source, longest_target = self.teacher.max_positions()
        return (source_sizes <= longest_source) & (target_sizes <= longest_target)

    def block(self, dataset: LanguagePairDataset, numbers: range, progress: SentenceReport) -> Block:
        """The predictions for these sentences; none for those that the teacher cannot read."""
        checksums = [0] * len(numbers)
        sentences = [numpy.empty(0, self.position_dtype)] * len(numbers)
        own = slice(numbers.start, numbers.stop)
        source_sizes, target_sizes = dataset.src_sizes[own], dataset.tgt_sizes[own]
        sizes, readable = numpy.maximum(source_sizes, target_sizes), self.readable(source_sizes, target_sizes)
        longest_first = numpy.argsort(-sizes.astype(numpy.int64), kind="stable")
        batches = batches_by_tokens(sizes, longest_first[readable[longest_first]], self.max_tokens, None)
        for batch in [*batches, *([index] for index in numpy.flatnonzero(~readable))]:
            sample = dataset.collater([dataset[numbers[index]] for index in batch])
            found = Sentences.of(sample, paddings(self.task))
            for number, checksum in zip(found.numbers, found.checksums, strict=True):
                checksums[number - numbers.start] = checksum
            if readable[batch[0]]:
                pieces = numpy.split(self.positions(sample), numpy.cumsum(found.lengths)[:-1])
                for number, piece in zip(found.numbers, pieces, strict=True):
                    sentences[number - numbers.start] = piece
            progress.add(len(batch))
        return Block.of(numbers.start, checksums, sentences)

    def positions(self, sample: dict) -> numpy.ndarray:
        """The predictions for all tokens of fairseq's `sample`, sentence by sentence without padding."""
        if self.device.type == "cuda":
            sample = utils.move_to_cuda(sample)
        token_index = target_token_index(sample["target"], self.task.target_dictionary.pad())
        size = len(self.task.target_dictionary)
        positions = numpy.empty(len(token_index), self.position_dtype)
        with torch.no_grad():
            predictions = self.teacher.read(sample, token_index, torch.zeros((), device=self.device))
            for rows in chunk_slices(len(token_index), default_chunk_tokens(size, self.device)):
                top = predictions.predict(rows).coarse(self.top_k)
                words, log_probabilities, rest = (part.cpu().numpy() for part in (top.words, top.log_q, top.log_rest))
                if numpy.isnan(log_probabilities).any():
                    raise UserError(
                        "the teacher predicts what is no number (nan); its checkpoint is of a training that failed, "
                        "give another with --teacher-path"
                    )
                positions["words"][rows], positions["rest"][rows] = words, rest
                positions["log_probabilities"][rows] = log_probabilities
        return positions
