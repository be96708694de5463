"""Make this process one of several simulated workers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextmanager
def one_of(workers: int) -> Iterator[None]:
    """Make this process the first of several workers within the block; what it gathers from the others is made up."""
    torch.distributed.init_process_group("fake", rank=0, world_size=workers, store=FakeStore())
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
