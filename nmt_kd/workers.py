"""Workers that divide a long job among them without communicating."""

import argparse
import os

import torch

from nmt_kd.options import AT_LEAST_1, require


def add_worker_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags whose values `which_worker` takes to the parser of a command."""
    parser.add_argument("--num-shards", type=int, default=1, help="number of workers (default: %(default)s)")
    parser.add_argument("--shard-id", type=int, default=0, help="number of this worker, from 0 (default: %(default)s)")


def add_precision_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag whose value `precision_on` takes to the parser of a command."""
    parser.add_argument(
        "--fp16",
        action=argparse.BooleanOptionalAction,
        help="compute in half precision (default: on a GPU, but not on a CPU)",
    )


def precision_on(device: torch.device, fp16: bool | None) -> torch.dtype:
    """Return the precision in which models compute on `device`, by default half precision on a GPU only."""
    in_half = device.type == "cuda" if fp16 is None else fp16
    return torch.float16 if in_half else torch.get_default_dtype()


def which_worker(shard_id: int, num_shards: int) -> tuple[int, int]:
    """Return this worker's number, from 0, and the number of workers, as given by the flags or else by torchrun.

    Raises UserError if the numbers are out of range.
    """
    if num_shards == 1 and {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        shard_id, num_shards = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    AT_LEAST_1.check("--num-shards", num_shards)
    allowed = f"from 0 to {num_shards - 1}, since --num-shards is {num_shards}"
    require(0 <= shard_id < num_shards, "--shard-id", shard_id, allowed)
    return shard_id, num_shards


def device_of_worker() -> torch.device:
    """Return this worker's GPU after making it torch's current device, or the CPU if there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    return torch.device("cuda")


def usable_cores() -> int:
    """Return how many CPU cores this process may use, which a cluster's job can limit."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
