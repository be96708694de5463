"""Fill a folder with values that a model computes at every target position of a data set."""

from collections.abc import Callable

import torch
from fairseq import utils
from fairseq.data import LanguagePairDataset
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.batching import by_sentence, warn_of_long_sentences
from nmt_kd.caching.neighbours.files import ValueBlock, ValueFolder, Values
from nmt_kd.caching.reading import paddings
from nmt_kd.engine.models import target_token_index
from nmt_kd.progress import Progress
from nmt_kd.storage.blocks import fill
from nmt_kd.workers import device_of_worker


def fill_with_values(
    task: FairseqTask,
    dataset: LanguagePairDataset,
    files: ValueFolder,
    values: Callable[[dict, Tensor, Tensor], Values],
    longest: tuple[int, int],
    max_tokens: int,
    worker: int,
    workers: int,
    name: str,
) -> None:
    """Compute a worker's missing blocks, and log the progress; `name` is that of the subset.

    `values` gets fairseq's sample, the positions of its target tokens (see `target_token_index`), and a tensor on the
    device to compute on. Sentences that do not fit into the `longest` source and target have no values.
    """
    device = device_of_worker()
    warn_of_long_sentences(dataset, longest, name, "are left out")

    def of_sample(sample: dict) -> Values:
        if device.type == "cuda":
            sample = utils.move_to_cuda(sample)
        token_index = target_token_index(sample["target"], task.target_dictionary.pad())
        return values(sample, token_index, torch.zeros((), device=device))

    def compute(block: int, progress: Progress) -> ValueBlock:
        numbers, padding = files.numbers(block), paddings(task)
        _, found = by_sentence(dataset, numbers, longest, padding, max_tokens, of_sample, files.none(), progress)
        return ValueBlock.of(numbers.start, found)

    fill(files, files.sizes, worker, workers, compute, name)
