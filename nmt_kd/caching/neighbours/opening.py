"""The options of a search for neighbours."""

from dataclasses import dataclass

from fairseq.tasks import FairseqTask

from nmt_kd.caching.neighbours.approximate import ApproximateSearch
from nmt_kd.caching.neighbours.datastore import KIND, Datastore
from nmt_kd.caching.neighbours.finding import SearchingFinder
from nmt_kd.caching.neighbours.keys import KeyReader
from nmt_kd.caching.neighbours.search import ExactSearch, Search
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1, one_of, option

EXACT_UP_TO = 2**20  # entries; twice as many take four times as long


@dataclass
class SearchOptions:
    """How neighbours are found."""

    knn_datastore: str = option("", f"folder that {KIND.command} writes")
    knn_k: int = option(64, "number of neighbours", AT_LEAST_1)  # of the paper, for IWSLT14
    knn_index: str = option(
        "auto",
        "search: exact, faiss (approximate), or auto: exact up to a million entries",
        one_of("auto", "exact", "faiss"),
    )
    knn_probes: int = option(32, "with faiss, parts of the index that a query visits", AT_LEAST_1)


def open_finder(task: FairseqTask, base: Teacher, base_path: str, options: SearchOptions) -> SearchingFinder:
    """Return what finds neighbours in a datastore made with the model `base`, whose file is `base_path`.

    Raises UserError if something does not fit.
    """
    if not options.knn_datastore:
        raise UserError(f"no datastore given; name with --knn-datastore a folder that {KIND.command} writes")
    reader = KeyReader(base, base_path)
    datastore = Datastore.open(options.knn_datastore, task, base.fingerprint, base_path)
    finder = SearchingFinder(reader, _search(datastore, options), options.knn_k)
    if isinstance(finder.search, ApproximateSearch):
        finder.search.log_recall(options.knn_k)
    return finder


def _search(datastore: Datastore, options: SearchOptions) -> Search:
    exact = len(datastore.entries) <= EXACT_UP_TO if options.knn_index == "auto" else options.knn_index == "exact"
    return ExactSearch(datastore) if exact else ApproximateSearch(datastore, options.knn_probes)
