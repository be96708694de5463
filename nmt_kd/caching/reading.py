"""A teacher's most probable words for a binarised data set, read from disk while a student is trained."""

from pathlib import Path

import numpy
import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.files import FORMAT, Block, Sentences, SubsetFolder, cache_manifest, position_dtype
from nmt_kd.data import dictionary_checksum
from nmt_kd.errors import UserError

TRAINING_SUBSET = "train"
OPEN_BLOCKS = 400  # of a subset, in a process; each is a file that is open


def paddings(task: FairseqTask) -> tuple[int, int]:
    """The padding symbols of both sides."""
    return task.source_dictionary.pad(), task.target_dictionary.pad()


class TeacherCache:
    """What `nmt-kd cache` has written into a folder. Its files are mapped, so they take no memory of the process."""

    def __init__(self, folder: Path, settings: dict, data: str, padding: tuple[int, int]):
        self.folder, self.data, self._paddings = folder, data, padding
        self.fingerprint: str = settings["teacher"]
        self.top_k: int = settings["top_k"]
        self._dtype = position_dtype(self.top_k, settings["vocabulary_size"])
        self._subsets: dict[str, _Subset] = {}
        self._last = ""  # the subset of the last sentences that were none of the training

    @classmethod
    def open(cls, folder: str, task: FairseqTask) -> "TeacherCache":
        """Open a cache for the data of `task`; UserError where there is none, or one of other dictionaries."""
        settings = cache_manifest(Path(folder)).read()
        if settings.get("format") != FORMAT:
            raise UserError(
                f"{folder} has predictions of format {settings.get('format')}, this version of nmt-kd reads {FORMAT}; "
                "make them again with nmt-kd cache"
            )
        for side in ("source", "target"):
            checksum = dictionary_checksum(getattr(task, f"{side}_dictionary"))
            if settings[f"{side}_dictionary"] != checksum:
                raise UserError(
                    f"{folder} was made with another {side} dictionary (checksum {settings[f'{side}_dictionary']}, "
                    f"that of {task.cfg.data} has {checksum}); train on the data that was cached, or cache this data"
                )
        return cls(Path(folder), settings, task.cfg.data, paddings(task))

    def check(self, subset: str) -> None:
        """UserError where there are no predictions for a subset, or not all."""
        self._subset(subset)

    def top(self, sample: dict, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The teacher's predictions for fairseq's `sample`, on the device of its target; see `top_of`."""
        return self.top_of(self.sentences_of(sample), training, sample["target"].device)

    def sentences_of(self, sample: dict) -> Sentences:
        """Which sentences fairseq's `sample` has; all that `top_of` must know of it."""
        return Sentences.of(sample, self._paddings)

    def top_of(self, sentences: Sentences, training: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The teacher's predictions for the sentences of a batch, on `device`.

        For every target position: the numbers of the most probable words [batch, length, k], int64, most probable
        first; their log-probabilities [batch, length, k], float32 (float16 on disk); and the log of the mass of all
        other words [batch, length], float32, -inf where there are none. Where the target is padding all are 0.

        In `training` the sentences are those of the subset "train", else of whichever other subset has them. Raises
        UserError where they are not the sentences that were cached, or a file is missing or damaged.
        """
        subset = self._subset_of_training(sentences) if training else self._subset_of_validation(sentences)
        positions = subset.positions(sentences)

        def padded(values: numpy.ndarray, dtype: type) -> Tensor:
            result = numpy.zeros((*sentences.kept.shape, *values.shape[1:]), dtype)
            result[sentences.kept] = values
            return torch.from_numpy(result).to(device)

        return (
            padded(positions["words"], numpy.int64),
            padded(positions["log_probabilities"], numpy.float32),
            padded(positions["rest"], numpy.float32),
        )

    def _subset_of_training(self, sentences: Sentences) -> "_Subset":
        subset = self._subset(TRAINING_SUBSET)
        unlike = subset.first_unlike(sentences)
        if unlike is not None:
            raise self._not_cached(unlike, [TRAINING_SUBSET])
        return subset

    def _subset_of_validation(self, sentences: Sentences) -> "_Subset":
        cached = (path.parent.name for path in self.folder.glob("*/manifest.json"))
        names = sorted(
            (name for name in cached if name != TRAINING_SUBSET), key=lambda name: (name != self._last, name)
        )
        if not names:
            raise UserError(f"{self.folder} has no predictions for a subset to validate on; {self._make('valid')}")
        unlike, unusable = [], []
        for name in names:
            try:
                subset = self._subset(name)
            except UserError as error:  # matters only if the sentences are in no other
                unusable.append(error)
                continue
            unlike.append(subset.first_unlike(sentences))
            if unlike[-1] is None:
                self._last = name
                return subset
        if unusable:
            raise unusable[0]
        raise self._not_cached(unlike[0], sorted(names))

    def _not_cached(self, number: int, names: list[str]) -> UserError:
        return UserError(
            f"sentence {number} (the first is 0) is not the one that {self.folder} has predictions for in "
            f"{' or '.join(names)}: it is other data, in another order, cut (--truncate-source) or of a subset that "
            f"was not cached; train on the data that was cached, or cache this data with nmt-kd cache {self.data}"
        )

    def _make(self, subset: str) -> str:
        return (
            f"make them with nmt-kd cache {self.data} --teacher-path TEACHER --top-k {self.top_k} {self.folder} "
            f"--gen-subset {subset}"
        )

    def _subset(self, name: str) -> "_Subset":
        if name not in self._subsets:
            manifest = cache_manifest(self.folder / name)
            if not manifest.path.exists():
                raise UserError(f"{self.folder} has no predictions for the subset {name}; {self._make(name)}")
            settings = manifest.read()
            subset = SubsetFolder(manifest.folder, settings["sentences"], settings["block_sentences"], self._dtype)
            if missing := subset.missing():
                raise UserError(
                    f"{subset.folder} lacks {missing} of its {subset.blocks} files; run the same nmt-kd cache again, "
                    "which computes what is missing"
                )
            self._subsets[name] = _Subset(subset)
        return self._subsets[name]


class _Subset:
    """The blocks of a subset, opened when they are first needed."""

    def __init__(self, files: SubsetFolder):
        self.files = files
        self._open: dict[int, Block] = {}
        self._checked: set[int] = set()

    def first_unlike(self, sentences: Sentences) -> int | None:
        """The number of the first of `sentences` that is not the one in the cache."""
        for number, checksum, length in zip(sentences.numbers, sentences.checksums, sentences.lengths, strict=True):
            if not 0 <= number < self.files.sentences:
                return number
            block = self._block(number)
            if block.checksums[number - block.first] != checksum or block.length(number) not in (length, 0):
                return number
        return None

    def positions(self, sentences: Sentences) -> numpy.ndarray:
        """The positions of all sentences, one after the other."""
        size = self.files.dtype.itemsize
        result = numpy.empty((sum(sentences.lengths), size), numpy.uint8)  # copied faster than what it stands for
        start = 0
        for number, length in zip(sentences.numbers, sentences.lengths, strict=True):
            block = self._block(number)
            if block.length(number) != length:
                raise UserError(
                    f"sentence {number} (the first is 0) has no predictions in {self.files.folder}, for it is longer "
                    "than the positions of the teacher; give the student the teacher's --max-source-positions and "
                    "--max-target-positions, and --skip-invalid-size-inputs-valid-test"
                )
            offset = block.offsets[number - block.first]
            result[start : start + length] = (
                block.positions[offset : offset + length].view(numpy.uint8).reshape(-1, size)
            )
            start += length
        return result.view(self.files.dtype).squeeze(1)

    def _block(self, number: int) -> Block:
        block = number // self.files.block_sentences
        if block not in self._open:
            if len(self._open) >= OPEN_BLOCKS:
                del self._open[next(iter(self._open))]
            self._open[block] = self.files.open(block, check=block not in self._checked)
            self._checked.add(block)
        return self._open[block]
