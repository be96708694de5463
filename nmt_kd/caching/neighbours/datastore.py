"""A datastore: the key and the gold token at every target position of a data set."""

from dataclasses import dataclass
from pathlib import Path

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.files import word_dtype
from nmt_kd.caching.neighbours.files import PositionValues, ValueFolder, Values
from nmt_kd.caching.neighbours.filling import fill_with_values
from nmt_kd.caching.neighbours.keys import KeyReader
from nmt_kd.caching.neighbours.manifests import Kind, check_data, settings_of_data
from nmt_kd.caching.subsets import open_subset
from nmt_kd.data import check_one_folder
from nmt_kd.options import AT_LEAST_1
from nmt_kd.storage.kinds import DATASTORE
from nmt_kd.workers import which_worker

KIND = Kind(DATASTORE, "nmt-kd datastore", "DATA FOLDER --teacher-path BASE", format=1)


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
    check_one_folder(task.cfg.data, KIND.command)
    worker, workers = which_worker(worker, workers)
    AT_LEAST_1.check("--max-tokens", max_tokens)
    dataset = open_subset(task, subset)
    of_data = {"subset": subset, **settings_of_data(dataset, block_sentences)}
    settings = KIND.settings(task, reader.base.fingerprint, width=reader.width, **of_data)
    KIND.manifest(out).claim(settings)
    files = _files(out, settings)

    def values(sample: dict, token_index: Tensor, like: Tensor) -> Values:
        keys = reader.read(sample, token_index, like)
        tokens = sample["target"].flatten()[token_index].cpu().numpy()
        return Values({"keys": keys.cpu().numpy(), "tokens": tokens.astype(files.kinds["tokens"][0])})

    longest = reader.base.max_positions()
    fill_with_values(task, dataset, files, values, longest, max_tokens, worker, workers, subset)


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
        settings = KIND.read(path, task, base, base_path)
        return cls(path, settings, _files(path, settings).open_all())

    @property
    def subset(self) -> str:
        """The name of the subset whose positions are the entries."""
        return self.settings["subset"]

    @property
    def fingerprint(self) -> str:
        """What identifies the entries, besides the model."""
        return f"{self.subset} {self.settings['data']}"

    def check_data(self, task: FairseqTask) -> None:
        """Raise UserError unless the subset of `task`, which is open, is the one that the datastore was made from."""
        check_data(self.folder, self.settings, task, self.subset)

    def tokens(self, entries: Tensor) -> Tensor:
        """Return the gold tokens of `entries`, in their shape and on their device."""
        found = self.entries.at("tokens", entries.cpu().numpy()).astype("<i8")
        return torch.from_numpy(found).to(entries.device)

    def own_entries(self, sample: dict, like: Tensor) -> Tensor:
        """Return the entries of the positions of fairseq's `sample`, of the same subset: int64 [positions]."""
        return torch.from_numpy(self.entries.of_sentences(sample["id"].tolist())).to(like.device)


def _files(folder: Path, settings: dict) -> ValueFolder:
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {
        "keys": ("<f2", (settings["width"],)),
        "tokens": (word_dtype(settings["vocabulary_size"]).str, ()),
    }
    return ValueFolder(folder, settings["sentences"], settings["block_sentences"], kinds, KIND.command)
