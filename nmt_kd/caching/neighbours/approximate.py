"""Find neighbours with faiss, whose index visits only the parts of a datastore that are near the query."""

import logging
import math
from pathlib import Path
from types import ModuleType

import numpy
import torch
from torch import Tensor

from nmt_kd.caching.neighbours.datastore import Datastore
from nmt_kd.caching.neighbours.search import KEYS_AT_ONCE, ExactSearch, Search
from nmt_kd.errors import UserError
from nmt_kd.progress import Progress
from nmt_kd.storage.atomic import atomic_file

logger = logging.getLogger(__name__)

CANDIDATES = 4  # times k; compressed keys select them, and exact distances the nearest of them
TRAINED_ON = 64  # keys for each list
SAMPLE = 100  # queries whose neighbours are compared with those of an exact search


class ApproximateSearch(Search):
    """Searches a faiss index, which is built once and mapped into memory.

    The index divides the keys into lists by k-means, and a query visits the `probes` nearest lists. Keys are compressed
    to half a byte for each number (IVF-SQ4), a quarter of the datastore; the distances to the candidates are computed
    from the datastore's keys. (IVF-PQ would take half of that, but its training takes minutes.)
    """

    def __init__(self, datastore: Datastore, probes: int):
        """Open the index of a datastore, or build it; UserError if faiss is missing or the file is unusable."""
        super().__init__(datastore)
        self._faiss = _faiss()
        lists, kind = index_kind(len(datastore.entries))
        self.name = f"faiss {kind} probes={min(probes, lists)}"
        self.path = datastore.folder / f"{kind.replace(',', '-').lower()}.faiss"
        if not self.path.exists():
            build_index(datastore, kind, self.path)
        try:
            flags = self._faiss.IO_FLAG_MMAP | self._faiss.IO_FLAG_READ_ONLY
            self._index = self._faiss.read_index(str(self.path), flags)
        except RuntimeError:
            self._index = None
        if self._index is None or self._index.ntotal != len(datastore.entries):
            raise UserError(f"{self.path} is damaged; delete it and rerun to build it again")
        self._few, self._all = (self._faiss.SearchParametersIVF(nprobe=n) for n in (min(probes, lists), lists))

    def candidates(self, queries: Tensor, k: int) -> Tensor:
        count = min(CANDIDATES * k, len(self.datastore.entries))
        keys = queries.float().cpu().numpy()
        entries = self._index.search(keys, count, params=self._few)[1]
        if (few := (entries[:, :k] < 0).any(1)).any():  # too few entries in the lists that were visited
            entries[few] = self._index.search(keys[few], count, params=self._all)[1]
        return torch.from_numpy(entries).to(queries.device)

    def log_recall(self, k: int) -> None:
        """Log which share of the exact neighbours of some entries is found."""
        numbers = numpy.linspace(0, len(self.datastore.entries) - 1, SAMPLE).astype("<i8")
        queries = torch.from_numpy(self.datastore.entries.at("keys", numbers))
        ours, exact = (search.nearest(queries, k).entries for search in (self, ExactSearch(self.datastore)))
        found = (ours.unsqueeze(-1) == exact.unsqueeze(1)).any(1).double().mean()
        logger.info(f"{self.name} finds {found:.1%} of the {k} nearest neighbours of {SAMPLE} entries")


def index_kind(entries: int) -> tuple[int, str]:
    """Return the number of lists, and faiss's factory string of the index, for so many keys."""
    lists = max(1, min(2 ** int(math.log2(4 * math.sqrt(entries))), entries // TRAINED_ON))
    return lists, f"IVF{lists},SQ4"


def build_index(datastore: Datastore, kind: str, path: Path) -> None:
    """Train an index on a sample of the keys, add all keys, and write it; logs its progress.

    If several workers start at once, each builds it and the first to finish wins.
    """
    faiss, entries = _faiss(), datastore.entries
    logger.info(f"building {path} for {len(entries):,} keys")
    index = faiss.index_factory(datastore.settings["width"], kind)
    sample = min(len(entries), TRAINED_ON * index.nlist)
    numbers = numpy.linspace(0, len(entries) - 1, sample).astype("<i8")
    index.train(entries.at("keys", numbers).astype("<f4"))
    progress = Progress(len(entries), "keys", path.name)
    for _, keys in entries.pieces("keys", KEYS_AT_ONCE):
        index.add(keys.astype("<f4"))
        progress.add(len(keys))
    try:
        with atomic_file(path, overwrite=False) as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
    except FileExistsError:
        logger.info(f"{path} was built by another worker in the meantime")


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError:
        raise UserError(
            'faiss is not installed; install it with pip install "nmt-kd[knn]", or give --knn-index exact'
        ) from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss
