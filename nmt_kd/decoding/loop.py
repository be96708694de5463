"""The decoding loop over a binarised subset."""

import logging

from fairseq.data import FairseqDataset

from nmt_kd.decoding.decoder import Decoder
from nmt_kd.decoding.shards import BlocksByLength, Decoded, ShardFolder
from nmt_kd.progress import Progress
from nmt_kd.storage.blocks import fill

logger = logging.getLogger(__name__)


def decode_subset(
    folder: ShardFolder,
    dataset: FairseqDataset,
    block_sentences: int,
    decoder: Decoder,
    worker: int,
    workers: int,
) -> None:
    """Decode the blocks of `dataset` that are missing in `folder`, or this worker's share of them.

    Raises UserError if the system refuses to write, or if a source is too long and neither skipped nor truncated.
    """
    blocks = BlocksByLength(dataset.src_sizes, block_sentences)

    def decode(block: int, progress: Progress) -> list[Decoded]:
        numbers = blocks.sentences(block)
        decoded = decoder.decode(dataset, numbers, block)
        progress.add(len(numbers))
        return decoded

    sizes = [len(blocks.sentences(block)) for block in range(len(blocks))]
    sentences = fill(folder, sizes, worker, workers, decode)
    decoder.log_counts()
    logger.info(f"decoded {sentences:,} sentences; when all workers are done, run nmt-kd assemble {folder.distill_dir}")
