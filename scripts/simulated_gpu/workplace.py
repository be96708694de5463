"""Data, models, criterions, a cache and batches to take steps with."""

import functools
import gc
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from fairseq import models, options, tasks
from fairseq.criterions import FairseqCriterion
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask

from nmt_kd.caching.store import sentences, write_store
from nmt_kd.engine.teacher import Teacher
from simulated_gpu.systems import PLAIN, System

CACHED_WORDS = 8
SUBSETS = ("train", "valid")


def write_data(folder: Path, vocabulary: int, lengths: Iterable[int]) -> None:
    """Write data of one batch, with sentences of these lengths on both sides, for training and for validation."""
    lengths = list(lengths)
    dictionary = Dictionary()
    for number in range(vocabulary - len(dictionary)):
        dictionary.add_symbol(f"w{number}")
    for language, subset in product(("en", "de"), SUBSETS):
        generator = torch.Generator().manual_seed(1)
        dictionary.save(str(folder / f"dict.{language}.txt"))
        prefix = str(folder / f"{subset}.en-de.{language}")
        builder = MMapIndexedDatasetBuilder(f"{prefix}.bin")
        for length in lengths:
            tokens = torch.randint(dictionary.nspecial, vocabulary, (length,), generator=generator)
            tokens[-1] = dictionary.eos()
            builder.add_item(tokens)
        builder.finalize(f"{prefix}.idx")


class Workplace:
    """One batch of data, and the sizes of student and teacher."""

    def __init__(self, folder: Path, student: list[str], teacher: list[str]):
        """`student` and `teacher` are the flags of their architectures; `folder` has what `write_data` writes."""
        self.folder = folder
        self.student, self.teacher = student, teacher
        self.cache = folder / "cache"
        if not self.cache.exists():
            self._write_cache()
        gc.freeze()  # what is imported, so that looking for unused tensors takes little

    def _write_cache(self) -> None:
        words = torch.arange(4, 4 + CACHED_WORDS)
        log_q = torch.linspace(-1.5, -4, CACHED_WORDS)
        for subset in SUBSETS:
            task = self.task()
            predictions = (
                (words.expand(len(target), -1), log_q.expand(len(target), -1)) for _, target in sentences(task, subset)
            )
            write_store(self.cache, task, subset, predictions, "simulated", CACHED_WORDS)

    def parse(self, *flags: str) -> Any:
        """Return fairseq's configuration of a fairseq-train command line; do not change it."""
        return _parsed(str(self.folder), "--source-lang", "en", "--target-lang", "de", *flags)

    def task(self) -> FairseqTask:
        """Return a new task; a criterion may change the task that it is built for."""
        return tasks.setup_task(self.parse(*self.student).task)

    def flags(self, system: System) -> list[str]:
        """Return the flags of a training."""
        flags = [*self.student, "--criterion", system.criterion, "--label-smoothing", "0.1", "--max-update", "100"]
        flags += ["--disable-validation", *system.flags]
        if system.from_cache:
            flags += ["--teacher-cache", str(self.cache)]
        elif system.name != PLAIN and system.has_teacher:
            flags += ["--teacher-path", "simulated.pt"]
        return flags

    def build(self, task: FairseqTask, cfg: Any) -> tuple[BaseFairseqModel, FairseqCriterion]:
        """Return the student and the criterion as they are after loading: on the CPU, in float32.

        To be called where tensors have no values. Each path of `--teacher-path` stands for a new teacher.
        """
        teacher_cfg = self.parse(*self.teacher)

        def load(teacher_path: str, task: FairseqTask, *args, **kwargs) -> Teacher:
            members = [models.build_model(teacher_cfg.model, task) for _ in teacher_path.split(":")]
            return Teacher(members, "simulated")

        Teacher.load = load
        return task.build_model(cfg.model), task.build_criterion(cfg.criterion)

    def batch(self, task: FairseqTask) -> dict:
        """Return the batch as fairseq's data loader returns it; to be called where tensors have values."""
        task.load_dataset("train")
        dataset = task.dataset("train")
        batches = task.get_batch_iterator(dataset, max_sentences=len(dataset), required_batch_size_multiple=1)
        return next(batches.next_epoch_itr(shuffle=False))


@functools.cache  # it takes half a second
def _parsed(*flags: str) -> Any:
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), list(flags)))
