"""Process large files in several processes, in chunks and preserving the order of the lines."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

CHUNK_LINES = 2000


def chunks(lines: Iterable) -> Iterator[list]:
    """Split `lines` into lists of up to CHUNK_LINES items."""
    iterator = iter(lines)
    while chunk := list(islice(iterator, CHUNK_LINES)):
        yield chunk


def map_in_order(function: Callable, items: Iterable, workers: int) -> Iterator:
    """`map` in several processes that reads only slightly ahead, because a corpus may not fit into memory."""
    if workers == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        pending: deque = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def add_workers_option(parser) -> None:
    parser.add_argument("--workers", type=int, default=1, help="number of processes (default: %(default)s)")
