"""Long jobs on a data set are shared out among workers that know nothing of each other; which of them is this?"""

import os

import torch

from nmt_kd.options import require


def which_worker(shard_id: int, num_shards: int) -> tuple[int, int]:
    """This worker's number, from 0, and how many there are: as the flags say, else as torchrun does.

    Raises UserError for numbers that make no sense.
    """
    if num_shards == 1 and {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        shard_id, num_shards = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    require(num_shards >= 1, "--num-shards", num_shards, "1 or more")
    allowed = f"from 0 to {num_shards - 1}, for --num-shards is {num_shards}"
    require(0 <= shard_id < num_shards, "--shard-id", shard_id, allowed)
    return shard_id, num_shards


def device_of_worker() -> torch.device:
    """The GPU of this worker among those of its machine, made torch's current one; the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    return torch.device("cuda")
