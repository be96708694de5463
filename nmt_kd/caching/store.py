"""Write and read stores of predictions from any program; docs/cache.md has an example.

A store is what `nmt-kd cache` writes and `--teacher-cache` reads: for every target position of a data set, a teacher's
most probable words. Whatever predicts words can be the teacher.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy
import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.files import Block, Positions
from nmt_kd.caching.reading import TeacherCache, paddings
from nmt_kd.caching.sentences import sentence_checksums
from nmt_kd.caching.subsets import claim_store, claim_subset, data_checksum, open_subset
from nmt_kd.checkpoints.task import task_of_data
from nmt_kd.errors import UserError
from nmt_kd.losses.divergence import SMALLEST_REST
from nmt_kd.options import require

__all__ = ["read_store", "sentences", "task_of_data", "write_store"]

MOST_MASS = 1.001  # of the words of a position; more is not a rounding error
NO_PREDICTION = -1  # in place of the words

Array = Tensor | numpy.ndarray
Prediction = tuple[Array, Array] | tuple[Array, Array, Array] | None


def sentences(task: FairseqTask, subset: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the source [length] and target [length] of each sentence of a subset, with their end-of-sentence symbols.

    The order is that of a store. Raises UserError if the subset does not exist.
    """
    dataset = open_subset(task, subset)
    for number in range(len(dataset)):
        item = dataset[number]
        yield item["source"], item["target"]


def write_store(
    folder: str | Path,
    task: FairseqTask,
    subset: str,
    predictions: Iterable[Prediction],
    teacher: str,
    top_k: int = 8,
    block_sentences: int | None = None,
) -> None:
    """Write the predictions for all sentences of a subset into a store, which may contain other subsets already.

    `task` is fairseq's, from `task_of_data` for example. `predictions` has one item for each sentence, in the order of
    `sentences`: `(words, log_q)`, where `words` [target length, top_k] are indices of the target dictionary, no word
    twice, in any order, and `log_q` are their log-probabilities, in nats. The mass of all other words is `1 - sum
    exp(log_q)`, or pass its logarithm [target length] as a third entry if that is imprecise. A position whose words
    are all -1 has no prediction, and the student learns it from the reference alone. `None`, or no rows, stands for a
    sentence without positions, which the student must leave out. `teacher` is any string that identifies the teacher
    and its settings.

    After an interruption, call it again with the same arguments: complete files are kept, but all predictions are
    requested again. Raises UserError if predictions do not fit the data, or the folder was made with other settings.
    """
    size = len(task.target_dictionary)
    require(1 <= top_k <= size, "top_k", top_k, f"from 1 to {size}, the size of the vocabulary")
    dataset, folder = open_subset(task, subset), Path(folder)
    claim_store(folder, task, teacher, top_k)
    files = claim_subset(folder / subset, dataset, top_k, size, block_sentences)
    blocks = range(len(files.sizes))
    missing = set(files.missing(blocks))
    stream = iter(predictions)
    for block in blocks:
        numbers = files.numbers(block)
        given = list(islice(stream, len(numbers)))
        if len(given) < len(numbers):
            raise UserError(
                f"there are predictions for {numbers.start + len(given)} sentences, but {subset} of {task.cfg.data} "
                f"has {len(dataset)}; give one prediction for each sentence, or None"
            )
        if block == blocks[-1] and list(islice(stream, 1)):
            raise UserError(
                f"there are predictions for more than the {len(dataset)} sentences of {subset} of {task.cfg.data}; "
                "give one for each sentence"
            )
        if block not in missing:
            continue
        checksums, contents = [], []
        for number, prediction in zip(numbers, given, strict=True):
            item = dataset[number]
            source, target = (item[side].numpy()[None] for side in ("source", "target"))
            checksums += sentence_checksums(source, target, paddings(task))
            try:
                contents.append(_positions(prediction, target.size, top_k, size))
            except ValueError as error:
                raise UserError(f"prediction for sentence {number} (counting from 0) of {subset}: {error}") from None
        files.write(block, Block.of(numbers.start, checksums, contents))


def read_store(folder: str | Path, task: FairseqTask, subset: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the predictions for each sentence of a subset, in the order of `sentences`.

    Each is `(words, log_q, log_rest)`: the most probable words [target length, top_k], int64, most probable first;
    their log-probabilities, float32 (float16 on disk); and the log of the mass of all others [target length], float32,
    -inf if there are none. At a position without a prediction the words are -1 and the others NaN. A sentence without
    positions has length 0. Raises UserError if the store is incomplete or damaged, or was made for other data.
    """
    stored = TeacherCache.open(str(folder), task).subset(subset)
    dataset = open_subset(task, subset)
    if stored.data != data_checksum(dataset):
        raise UserError(
            f"{folder}/{subset} was made for other data than {subset} of {task.cfg.data}; give the data it was made for"
        )
    for number in range(len(dataset)):
        found = stored.sentence(number)
        words = found.words.astype(numpy.int64)
        words[numpy.isnan(found.log_rest)] = NO_PREDICTION
        yield (
            torch.from_numpy(words),
            torch.from_numpy(found.log_q.astype(numpy.float32)),
            torch.from_numpy(numpy.array(found.log_rest)),
        )


def _positions(prediction: Prediction, length: int, top_k: int, vocabulary_size: int) -> Positions:
    """Check a prediction and return it as it is stored; raises ValueError that says what is wrong with it."""
    if prediction is None or len(prediction[0]) == 0:
        return Positions.none(top_k, vocabulary_size)
    words, log_q, *rest = (torch.as_tensor(part).detach().cpu() for part in prediction)
    for name, part in (("words", words), ("log_q", log_q)):
        if tuple(part.shape) != (length, top_k):
            raise ValueError(f"{name} has shape {list(part.shape)}, not [{length}, {top_k}], target tokens and top_k")
    known = ~words.long().eq(NO_PREDICTION).all(-1)
    indices = words.long().where(known.unsqueeze(-1), torch.arange(top_k))
    if words.is_floating_point() or int(indices.min()) < 0 or int(indices.max()) >= vocabulary_size:
        raise ValueError(f"words must be integers from 0 to {vocabulary_size - 1}, indices of the target dictionary")
    words, log_q = indices, log_q.double().where(known.unsqueeze(-1), -torch.inf)
    if words.sort(-1).values.diff(dim=-1).eq(0).any():
        raise ValueError("a word occurs twice at one position; give different words")
    log_q, order = log_q.contiguous().sort(dim=-1, descending=True, stable=True)
    mass = log_q.exp().sum(-1)
    if not bool((mass <= MOST_MASS).all()):  # true for NaN
        raise ValueError(f"the probabilities of a position sum to {mass.max():.4g}; give log-probabilities, not scores")
    if rest:
        log_rest = rest[0].double()
        if tuple(log_rest.shape) != (length,) or not bool((log_rest.exp() + mass <= MOST_MASS)[known].all()):
            raise ValueError(f"log_rest must be the log of the mass of all other words, shape [{length}]")
    else:
        left = 1 - mass
        log_rest = torch.where(left > SMALLEST_REST, left.clamp(min=SMALLEST_REST).log(), -torch.inf)
    positions = Positions.of(words.gather(-1, order).numpy(), log_q.numpy(), log_rest.numpy(), vocabulary_size)
    return positions.only(known.numpy())
