"""Build a cache of predictions in one pass of the teacher over the data."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from fairseq import utils
from fairseq.data import LanguagePairDataset
from fairseq.tasks import FairseqTask

from nmt_kd.caching.batching import by_sentence, warn_of_long_sentences
from nmt_kd.caching.files import Block, Positions, SubsetFolder
from nmt_kd.caching.reading import paddings
from nmt_kd.caching.subsets import claim_store, claim_subset, open_subset
from nmt_kd.data import check_one_folder
from nmt_kd.engine.chunks import chunk_slices, default_chunk_tokens
from nmt_kd.engine.distribution import TopDistribution
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.predictions import PredictionSource
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1, require
from nmt_kd.progress import Progress
from nmt_kd.storage.blocks import fill
from nmt_kd.workers import device_of_worker, precision_on, which_worker

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
    fp16: bool | None = None,
) -> None:
    """Write the `top_k` most probable words of `source` at every target position of `subsets` into the folder `out`.

    Computes the missing blocks, or this worker's share of them, and logs its progress. `task` reads the data. By
    default, `block_sentences` is chosen so that a subset has 200 blocks at most. The files do not depend on the
    workers; the machine and `max_tokens` change only the last bits of the results. Runs on a GPU if there is one,
    and by default in half precision there (`fp16`), as the files are. Raises UserError if the source does not fit the
    data, or `out` was made with other settings.
    """
    check_one_folder(task.cfg.data, "nmt-kd cache")
    worker, workers = which_worker(worker, workers)
    AT_LEAST_1.check("--max-tokens", max_tokens)
    size = len(task.target_dictionary)
    require(1 <= top_k <= size, "--top-k", top_k, f"from 1 to {size}, the size of the vocabulary")
    if source.most_words is not None:
        allowed = f"{source.most_words} or less, the number of words that this teacher predicts"
        require(top_k <= source.most_words, "--top-k", top_k, allowed)
    device = device_of_worker()
    like = torch.zeros((), device=device, dtype=precision_on(device, fp16))
    datasets = {subset: open_subset(task, subset) for subset in subsets}
    claim_store(out, task, source.fingerprint, top_k)
    for subset, dataset in datasets.items():
        files = claim_subset(out / subset, dataset, top_k, size, block_sentences)
        builder = _Builder(task, source.on_subset(subset), top_k, max_tokens, like)
        builder.build(files, dataset, worker, workers)
        if summary := builder.source.summary():
            logger.info(f"{subset}: {summary}")


@dataclass(frozen=True)
class _Builder:
    """Computes the blocks of a cache with a teacher, keeping `top_k` words per position."""

    task: FairseqTask
    source: PredictionSource
    top_k: int
    max_tokens: int
    like: torch.Tensor  # has the device and the precision in which the models compute

    def build(self, files: SubsetFolder, dataset: LanguagePairDataset, worker: int, workers: int) -> None:
        """Compute this worker's missing blocks of a subset."""
        name = files.folder.name
        consequence = "get no predictions; fairseq-train leaves them out if the student has as many positions"
        warn_of_long_sentences(dataset, self.source.max_positions(), name, consequence)

        def compute(block: int, progress: Progress) -> Block:
            return self.block(dataset, files.numbers(block), progress)

        fill(files, files.sizes, worker, workers, compute, name)

    def block(self, dataset: LanguagePairDataset, numbers: range, progress: Progress) -> Block:
        """Return the predictions for these sentences; those that are too long for the teacher get none."""
        none = Positions.none(self.top_k, len(self.task.target_dictionary))
        longest, padding = self.source.max_positions(), paddings(self.task)
        found = by_sentence(dataset, numbers, longest, padding, self.max_tokens, self.positions, none, progress)
        return Block.of(numbers.start, *found)

    def positions(self, sample: dict) -> Positions:
        """Return the predictions for all tokens of fairseq's `sample`, sentence by sentence without padding."""
        if self.like.is_cuda:
            sample = utils.move_to_cuda(sample)
        token_index = target_token_index(sample["target"], self.task.target_dictionary.pad())
        size = len(self.task.target_dictionary)
        chunks = [Positions.none(self.top_k, size)]
        with torch.no_grad():
            predictions = self.source.read(sample, token_index, self.like)
            for rows in chunk_slices(len(token_index), default_chunk_tokens(size, self.like.device)):
                chunks.append(_stored(predictions.predict(rows).coarse(self.top_k)))
        return Positions.joined(chunks)


def _stored(top: TopDistribution) -> Positions:
    """Return predictions as they are stored; raises UserError if they are NaN."""
    words, log_q, log_rest = (part.cpu().numpy() for part in (top.words, top.log_q, top.log_rest))
    known = numpy.ones(len(words), bool) if top.known is None else top.known.cpu().numpy()
    if numpy.isnan(log_q[known]).any():
        raise UserError(
            "the teacher's predictions are NaN; if it computes in half precision, as on a GPU, add --no-fp16; "
            "otherwise, give another teacher with --teacher-path"
        )
    return Positions.of(words, log_q, log_rest, top.vocabulary_size).only(known)
