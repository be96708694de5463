"""Folders that workers fill block by block, with one file per block.

The content of a block depends only on the data and the settings, never on the workers, and its file appears under its
name only when it is complete and on disk. So a rerun computes only what is missing, with any number of workers, and
workers that compute the same block write the same file.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from nmt_kd.errors import UserError
from nmt_kd.progress import Progress
from nmt_kd.storage.atomic import atomic_file, delete_leftovers

logger = logging.getLogger(__name__)

Content = TypeVar("Content")


class BlockFolder(ABC, Generic[Content]):
    """A folder of numbered blocks; subclasses define how a block is encoded and how damage is detected."""

    folder: Path
    suffix: str  # of the files' names, with its dot

    @abstractmethod
    def encode(self, content: Content) -> Iterable[bytes]:
        """Return the parts of a block's file."""

    @abstractmethod
    def is_whole(self, block: int) -> bool:
        """Return whether the file of a block, which exists, is undamaged."""

    def path(self, block: int) -> Path:
        """Return where a block is stored."""
        return self.folder / f"{block:07}{self.suffix}"

    def write(self, block: int, content: Content) -> None:
        """Store a block, whole or not at all; raises UserError if the system refuses to write."""
        with atomic_file(self.path(block), clean=False) as file:  # `fill` cleans the folder once, when it is complete
            file.writelines(self.encode(content))

    def absent(self, blocks: Iterable[int]) -> list[int]:
        """Return those of `blocks` that have no file; the files of the others may be damaged."""
        return [block for block in blocks if not self.path(block).exists()]

    def missing(self, blocks: Iterable[int]) -> list[int]:
        """Return those of `blocks` that are absent or damaged; damaged files are renamed to *.damaged."""
        return [block for block in blocks if not self._is_complete(block)]

    def _is_complete(self, block: int) -> bool:
        path = self.path(block)
        try:
            if self.is_whole(block):
                return True
            damaged = path.with_suffix(".damaged")
            path.replace(damaged)
            logger.warning(f"{path} is damaged; renamed to {damaged.name}, to be computed again")
        except FileNotFoundError:
            pass
        return False


class SentenceFolder(BlockFolder[Content]):
    """A folder whose blocks have the sentences of a data set in order, the same number in each but the last."""

    sentences: int
    block_sentences: int

    @property
    def sizes(self) -> list[int]:
        """The number of sentences in each block."""
        return [len(self.numbers(block)) for block in range(-(-self.sentences // self.block_sentences))]

    def numbers(self, block: int) -> range:
        """Return the numbers of a block's sentences."""
        first = block * self.block_sentences
        return range(first, min(first + self.block_sentences, self.sentences))

    def check_present(self, command: str) -> None:
        """Raise UserError if a block is absent; `command` is the one that computes them."""
        blocks = range(len(self.sizes))
        if absent := self.absent(blocks):
            raise UserError(
                f"{self.folder} lacks {len(absent)} of its {len(blocks)} files; rerun {command} to compute them"
            )


def of_worker(blocks: int, worker: int, workers: int) -> range:
    """Return the numbers of the blocks that a worker computes: every n-th, so that all get long and short ones."""
    return range(worker, blocks, workers)


def fill(
    folder: BlockFolder[Content],
    sizes: Sequence[int],
    worker: int,
    workers: int,
    compute: Callable[[int, Progress], Content],
    name: str = "",
) -> int:
    """Compute the missing blocks of a worker, log the progress, and return the number of sentences computed.

    `sizes` are the numbers of sentences in each block. `compute` gets a block's number, and the progress to which it
    adds the sentences it has done. `name` starts each line of the log. Raises UserError if the system refuses to write.
    """
    prefix = f"{name}: " if name else ""
    own = of_worker(len(sizes), worker, workers)
    missing = folder.missing(own)
    logger.info(f"{prefix}worker {worker + 1} of {workers}: {len(missing)} of {len(own)} blocks to compute")
    progress = Progress(sum(sizes[block] for block in missing), name=name)
    for block in missing:
        folder.write(block, compute(block, progress))
    left = len(folder.absent(range(len(sizes))))
    if not left:
        delete_leftovers(folder.folder)
    logger.info(
        f"{prefix}{left} blocks are left to other workers" if left else f"{prefix}all blocks are in {folder.folder}"
    )
    return progress.done
