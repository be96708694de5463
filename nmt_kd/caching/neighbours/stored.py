"""Folders of neighbours, from which many caches, such as those of different temperatures, are made after one search.

    OUT/manifest.json                       the model, the datastore, the search, the number of neighbours
    OUT/train/manifest.json                 the number of sentences, their checksum, the size of a block
    OUT/train/0000000.safetensors ...       blocks, see `nmt_kd.caching.neighbours.files`
    OUT/valid/...

The values are those of `NeighbourTokens`: `distances` float32 [positions, k + 1], `tokens` uint16 or uint32
[positions, k + 1], and `own` int32 [positions].
"""

from pathlib import Path

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.files import word_dtype
from nmt_kd.caching.neighbours.files import PositionValues, ValueFolder, Values
from nmt_kd.caching.neighbours.filling import fill_with_values
from nmt_kd.caching.neighbours.finding import Finder, NeighbourTokens, SearchingFinder
from nmt_kd.caching.neighbours.manifests import Kind, check_data, settings_of_data
from nmt_kd.caching.subsets import open_subset
from nmt_kd.data import check_one_folder
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1
from nmt_kd.storage.kinds import NEIGHBOURS
from nmt_kd.workers import which_worker

KIND = Kind(
    NEIGHBOURS, "nmt-kd neighbours", "DATA FOLDER --teacher-path BASE --knn-datastore DATASTORE --knn-k K", format=1
)


class StoredFinder(Finder):
    """Reads neighbours that `build_neighbours` has written."""

    def __init__(self, folder: str, task: FairseqTask, base: str, base_path: str):
        """Open a folder; `base` is the fingerprint of the model at `base_path`.

        Raises UserError if it contains no neighbours, or they were found with another model or other dictionaries.
        """
        self.folder = Path(folder)
        self.settings = KIND.read(self.folder, task, base, base_path)
        self.fingerprint, self.k = self.settings["found_with"], self.settings["neighbours"]
        self._subsets: dict[str, PositionValues] = {}

    def check(self, task: FairseqTask, subset: str) -> None:
        manifest = KIND.manifest(self.folder / subset)
        if not manifest.path.exists():
            raise UserError(
                f"{self.folder} has no neighbours for {subset}; find them with {KIND.command} --gen-subset {subset}"
            )
        settings = manifest.read()
        check_data(manifest.folder, settings, task, subset)
        self._subsets[subset] = _files(manifest.folder, {**self.settings, **settings}).open_all()

    def find(self, subset: str, sample: dict, token_index: Tensor, like: Tensor) -> NeighbourTokens:
        stored = self._subsets[subset]
        positions = stored.of_sentences(sample["id"].tolist())
        distances, tokens, own = (
            torch.from_numpy(stored.at(name, positions).astype(kind)).to(token_index.device)
            for name, kind in (("distances", "<f4"), ("tokens", "<i8"), ("own", "<i8"))
        )
        return NeighbourTokens(distances, tokens, own)


def build_neighbours(
    task: FairseqTask,
    finder: SearchingFinder,
    out: Path,
    subsets: list[str],
    max_tokens: int = 4000,
    worker: int = 0,
    workers: int = 1,
    block_sentences: int | None = None,
) -> None:
    """Write the neighbours of all target positions of `subsets` into the folder `out`; see `build_cache`."""
    check_one_folder(task.cfg.data, KIND.command)
    worker, workers = which_worker(worker, workers)
    AT_LEAST_1.check("--max-tokens", max_tokens)
    datasets = {subset: open_subset(task, subset) for subset in subsets}
    for subset in subsets:
        finder.check(task, subset)
    base = finder.reader.base
    settings = KIND.settings(task, base.fingerprint, found_with=finder.fingerprint, neighbours=finder.k)
    KIND.manifest(out).claim(settings)
    for subset, dataset in datasets.items():
        of_data = settings_of_data(dataset, block_sentences)
        KIND.manifest(out / subset).claim(of_data)
        files = _files(out / subset, {**settings, **of_data})

        def values(
            sample: dict, token_index: Tensor, like: Tensor, subset: str = subset, files: ValueFolder = files
        ) -> Values:
            found = finder.find(subset, sample, token_index, like)
            kinds = {name: kind for name, (kind, _) in files.kinds.items()}
            return Values({name: getattr(found, name).cpu().numpy().astype(kind) for name, kind in kinds.items()})

        fill_with_values(task, dataset, files, values, base.max_positions(), max_tokens, worker, workers, subset)


def _files(folder: Path, settings: dict) -> ValueFolder:
    width = settings["neighbours"] + 1
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {
        "distances": ("<f4", (width,)),
        "tokens": (word_dtype(settings["vocabulary_size"]).str, (width,)),
        "own": ("<i4", ()),
    }
    return ValueFolder(folder, settings["sentences"], settings["block_sentences"], kinds, KIND.command)
