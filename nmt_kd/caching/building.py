"""Build a cache of predictions in one pass of the teacher over the data."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from fairseq import utils
from fairseq.data import LanguagePairDataset
from fairseq.tasks import FairseqTask

from nmt_kd.caching.files import Block, Positions, SubsetFolder
from nmt_kd.caching.reading import paddings
from nmt_kd.caching.sentences import Sentences
from nmt_kd.caching.subsets import claim_store, claim_subset, open_subset
from nmt_kd.data import batches_by_tokens
from nmt_kd.engine.chunks import chunk_slices, default_chunk_tokens
from nmt_kd.engine.distribution import TopDistribution
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.predictions import PredictionSource
from nmt_kd.errors import UserError
from nmt_kd.options import require
from nmt_kd.progress import Progress
from nmt_kd.storage.blocks import fill
from nmt_kd.workers import device_of_worker, which_worker

logger = logging.getLogger(__name__)


def build_cache(
    task: FairseqTask,
    source: PredictionSource,
    out: Path,
    top_k: int,
    subsets: list[str],
    max_tokens: int = 4000,
    worker: int = 0,
    workers: int = 1,
    block_sentences: int | None = None,
) -> None:
    """Write the `top_k` most probable words of `source` at every target position of `subsets` into the folder `out`.

    Computes the missing blocks, or this worker's share of them, and logs its progress. `task` reads the data. By
    default, `block_sentences` is chosen so that a subset has 200 blocks at most. The files do not depend on the
    workers; the machine and `max_tokens` change only the last bits of what is computed. Runs on a GPU if there is one.
    Raises UserError if the source does not fit the data, or `out` was made with other settings.
    """
    if len(utils.split_paths(task.cfg.data)) > 1:
        raise UserError(
            f"{task.cfg.data} names several folders, but nmt-kd cache takes one; choose the one to train on"
        )
    worker, workers = which_worker(worker, workers)
    require(max_tokens >= 1, "--max-tokens", max_tokens, "1 or more")
    size = len(task.target_dictionary)
    require(1 <= top_k <= size, "--top-k", top_k, f"from 1 to {size}, the size of the vocabulary")
    datasets = {subset: open_subset(task, subset) for subset in subsets}
    claim_store(out, task, source.fingerprint, top_k)
    for subset, dataset in datasets.items():
        files = claim_subset(out / subset, dataset, top_k, size, block_sentences)
        builder = _Builder(task, source.on_subset(subset), top_k, max_tokens, device_of_worker())
        builder.build(files, dataset, worker, workers)


@dataclass(frozen=True)
class _Builder:
    """Computes the blocks of a cache with a teacher, keeping `top_k` words per position."""

    task: FairseqTask
    source: PredictionSource
    top_k: int
    max_tokens: int
    device: torch.device

    def build(self, files: SubsetFolder, dataset: LanguagePairDataset, worker: int, workers: int) -> None:
        """Compute this worker's missing blocks of a subset."""
        name = files.folder.name
        if too_long := int((~self.readable(dataset.src_sizes, dataset.tgt_sizes)).sum()):
            longest = " and ".join(map(str, self.source.max_positions()))
            logger.warning(
                f"{name}: {too_long} sentences are longer than the teacher's {longest} positions and get no "
                "predictions; fairseq-train leaves them out if the student has as many positions"
            )

        def compute(block: int, progress: Progress) -> Block:
            return self.block(dataset, files.numbers(block), progress)

        fill(files, files.sizes, worker, workers, compute, name)
        if summary := self.source.summary():
            logger.info(f"{name}: {summary}")

    def readable(self, source_sizes: numpy.ndarray, target_sizes: numpy.ndarray) -> numpy.ndarray:
        """Return which sentences of these lengths fit into the teacher's positions, bool [sentences]."""
        longest_source, longest_target = self.source.max_positions()
        return (source_sizes <= longest_source) & (target_sizes <= longest_target)

    def block(self, dataset: LanguagePairDataset, numbers: range, progress: Progress) -> Block:
        """Return the predictions for these sentences; those that are too long for the teacher get none."""
        checksums = [0] * len(numbers)
        sentences = [Positions.none(self.top_k, len(self.task.target_dictionary))] * len(numbers)
        own = slice(numbers.start, numbers.stop)
        source_sizes, target_sizes = dataset.src_sizes[own], dataset.tgt_sizes[own]
        sizes, readable = numpy.maximum(source_sizes, target_sizes), self.readable(source_sizes, target_sizes)
        longest_first = numpy.argsort(-sizes.astype(numpy.int64), kind="stable")
        batches = list(batches_by_tokens(sizes, longest_first[readable[longest_first]], self.max_tokens, None))
        batches += [numpy.array([index]) for index in numpy.flatnonzero(~readable)]
        for batch in batches:
            sample = dataset.collater([dataset[numbers[index]] for index in batch])
            found = Sentences.of(sample, paddings(self.task))
            for number, checksum in zip(found.numbers, found.checksums, strict=True):
                checksums[number - numbers.start] = checksum
            if readable[batch[0]]:
                positions, end = self.positions(sample), 0
                for number, length in zip(found.numbers, found.lengths, strict=True):
                    start, end = end, end + length
                    sentences[number - numbers.start] = positions.rows(start, end)
            progress.add(len(batch))
        return Block.of(numbers.start, checksums, sentences)

    def positions(self, sample: dict) -> Positions:
        """Return the predictions for all tokens of fairseq's `sample`, sentence by sentence without padding."""
        if self.device.type == "cuda":
            sample = utils.move_to_cuda(sample)
        token_index = target_token_index(sample["target"], self.task.target_dictionary.pad())
        size = len(self.task.target_dictionary)
        chunks = [Positions.none(self.top_k, size)]
        with torch.no_grad():
            predictions = self.source.read(sample, token_index, torch.zeros((), device=self.device))
            for rows in chunk_slices(len(token_index), default_chunk_tokens(size, self.device)):
                chunks.append(_stored(predictions.predict(rows).coarse(self.top_k)))
        return Positions.joined(chunks)


def _stored(top: TopDistribution) -> Positions:
    """Return predictions as they are stored; raises UserError if they are NaN."""
    words, log_q, log_rest = (part.cpu().numpy() for part in (top.words, top.log_q, top.log_rest))
    known = numpy.ones(len(words), bool) if top.known is None else top.known.cpu().numpy()
    if numpy.isnan(log_q[known]).any():
        raise UserError(
            "the teacher's predictions are NaN, so its training has diverged; give another checkpoint with "
            "--teacher-path"
        )
    return Positions.of(words, log_q, log_rest, top.vocabulary_size).only(known)
