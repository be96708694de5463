"""A datastore: the key and the gold token at every target position of a data set."""

from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from fairseq import utils
from fairseq.tasks import FairseqTask

from nmt_kd.caching.batching import by_sentence, warn_of_long_sentences
from nmt_kd.caching.files import usual_block_sentences, word_dtype
from nmt_kd.caching.neighbours.files import PositionValues, ValueBlock, ValueFolder, Values
from nmt_kd.caching.neighbours.keys import KeyReader
from nmt_kd.caching.reading import paddings
from nmt_kd.caching.subsets import data_checksum, open_subset, vocabularies
from nmt_kd.engine.models import target_token_index
from nmt_kd.errors import UserError
from nmt_kd.options import require
from nmt_kd.progress import Progress
from nmt_kd.storage.blocks import fill
from nmt_kd.storage.kinds import DATASTORE, kind_of_folder
from nmt_kd.storage.manifest import Manifest
from nmt_kd.version import __version__
from nmt_kd.workers import device_of_worker, which_worker

FORMAT = 1
COMMAND = "nmt-kd datastore"


def build_datastore(
    task: FairseqTask,
    reader: KeyReader,
    out: Path,
    subset: str,
    max_tokens: int = 4000,
    worker: int = 0,
    workers: int = 1,
    block_sentences: int | None = None,
) -> None:
    """Write the keys and gold tokens of a subset into the folder `out`.

    Computes the missing blocks, or this worker's share of them, and logs its progress; see `build_cache`. Raises
    UserError if `out` was made with other settings or for other data.
    """
    if len(utils.split_paths(task.cfg.data)) > 1:
        raise UserError(f"{task.cfg.data} names several folders, but {COMMAND} takes one; choose the one to train on")
    worker, workers = which_worker(worker, workers)
    require(max_tokens >= 1, "--max-tokens", max_tokens, "1 or more")
    dataset = open_subset(task, subset)
    settings = {
        "format": FORMAT,
        "model": reader.base.fingerprint,
        **vocabularies(task),
        "width": reader.width,
        "subset": subset,
        "sentences": len(dataset),
        "block_sentences": block_sentences or usual_block_sentences(len(dataset)),
        "data": data_checksum(dataset),
    }
    _manifest(out).claim(settings)
    files, longest, device = _files(out, settings), reader.base.max_positions(), device_of_worker()
    warn_of_long_sentences(dataset, longest, subset, "are left out of the datastore")

    def values(sample: dict) -> Values:
        if device.type == "cuda":
            sample = utils.move_to_cuda(sample)
        token_index = target_token_index(sample["target"], task.target_dictionary.pad())
        keys, _ = reader.read(sample, token_index, torch.zeros((), device=device))
        tokens = sample["target"].flatten()[token_index].cpu().numpy()
        return Values({"keys": keys.cpu().numpy(), "tokens": tokens.astype(files.kinds["tokens"][0])})

    def compute(block: int, progress: Progress) -> ValueBlock:
        numbers = files.numbers(block)
        _, found = by_sentence(dataset, numbers, longest, paddings(task), max_tokens, values, files.none(), progress)
        return ValueBlock.of(numbers.start, found)

    fill(files, files.sizes, worker, workers, compute, subset)


@dataclass(frozen=True)
class Datastore:
    """An open datastore; its entries are the target positions, numbered in the order of the sentences."""

    folder: Path
    settings: dict
    entries: PositionValues

    @classmethod
    def open(cls, folder: str, task: FairseqTask, base: str, base_path: str) -> "Datastore":
        """Open the datastore in `folder`; `base` is the fingerprint of the model at `base_path`.

        Raises UserError if there is no complete datastore, or it was made with another model or other dictionaries.
        """
        path = Path(folder)
        if (kind := kind_of_folder(path)) not in (DATASTORE, None):
            raise UserError(f"{folder} is {kind}, not {DATASTORE}; give a folder that {COMMAND} writes")
        settings = _manifest(path).read()
        if settings.get("format") != FORMAT:
            raise UserError(
                f"{folder} is a datastore in format {settings.get('format')}, but this version of nmt-kd reads format "
                f"{FORMAT}; make it again with {COMMAND}"
            )
        if settings["model"] != base:
            raise UserError(
                f"{folder} was made with another model ({settings['model']}) than {base_path} ({base}); give the "
                "checkpoint that it was made with"
            )
        for name, value in vocabularies(task).items():
            if settings[name] != value:
                raise UserError(
                    f"{folder} was made with {name} {settings[name]!r}, but {task.cfg.data} has {value!r}; give data "
                    "with the same dictionaries, or make another datastore"
                )
        return cls(path, settings, _files(path, settings).open_all())

    @property
    def subset(self) -> str:
        """The name of the subset whose positions are the entries."""
        return self.settings["subset"]

    def check_data(self, task: FairseqTask) -> None:
        """Raise UserError unless the subset of `task`, which is open, is the one that the datastore was made of."""
        if (checksum := data_checksum(task.dataset(self.subset))) != self.settings["data"]:
            raise UserError(
                f"{self.folder} was made of another {self.subset} (checksum {self.settings['data']}) than that of "
                f"{task.cfg.data} ({checksum}); give the data it was made of, or make another datastore"
            )

    def entries_of(self, sentences: list[int]) -> numpy.ndarray:
        """Return the entries of some sentences of the subset, one sentence after the other, [positions]."""
        return numpy.concatenate([numpy.array(self.entries.sentence(number), "<i8") for number in sentences])


def _manifest(folder: Path) -> Manifest:
    command = f"{COMMAND} DATA FOLDER --teacher-path BASE"
    return Manifest(folder, "datastore", command, noted={"nmt_kd": __version__})


def _files(folder: Path, settings: dict) -> ValueFolder:
    kinds = {"keys": ("<f2", (settings["width"],)), "tokens": (word_dtype(settings["vocabulary_size"]).str, ())}
    return ValueFolder(folder, settings["sentences"], settings["block_sentences"], kinds, COMMAND)
