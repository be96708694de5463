"""Decode text that fairseq-interactive reads."""

import logging
from dataclasses import dataclass, replace

from fairseq.data import Dictionary, FairseqDataset

from nmt_kd.data import source_checksum, subwords
from nmt_kd.decoding.decoder import Decoder
from nmt_kd.decoding.shards import BlocksByLength, ShardFolder
from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class InteractiveDecoding:
    """Stores sentences that are read together (--buffer-size) as a block, with their sources."""

    folder: ShardFolder
    dictionary: Dictionary  # of the sources
    block_sentences: int
    sentences: int = 0  # read so far

    def decode(self, dataset: FairseqDataset, decoder: Decoder) -> None:
        """Decode the next sentences of the input, unless the folder already has them.

        Raises UserError if the folder has other sentences in their place.
        """
        first, self.sentences = self.sentences, self.sentences + len(dataset)
        block = first // self.block_sentences
        if self.folder.missing([block]) or not self._has_all(block, dataset, first):
            numbers = BlocksByLength(dataset.src_sizes, self.block_sentences).sentences(0)
            decoded = decoder.decode(dataset, numbers, block)
            texts = {number: subwords(self.dictionary, dataset[number]["source"]) for number in numbers.tolist()}
            self.folder.write(
                block,
                [
                    replace(sentence, id=first + sentence.id, notes={"text": texts[sentence.id], **sentence.notes})
                    for sentence in decoded
                ],
            )
            decoder.log_counts()
        logger.info(f"{self.sentences:,} sentences are in {self.folder.distill_dir}")

    def _has_all(self, block: int, dataset: FairseqDataset, first: int) -> bool:
        """Return whether a finished block has all sentences of `dataset`; an earlier input may have ended within it."""
        finished = list(self.folder.read(block))
        for sentence in finished:
            index = sentence.id - first
            if index >= len(dataset) or source_checksum(dataset[index]["source"]) != sentence.source:
                raise UserError(
                    f"line {sentence.id + 1} of the input differs from the one decoded into {self.folder.distill_dir}; "
                    "rerun with the same input to resume, or choose another --distill-dir"
                )
        return len(finished) == len(dataset)
