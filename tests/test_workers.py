import os

import pytest
import torch

from nmt_kd.errors import UserError
from nmt_kd.workers import device_of_worker, precision_on, usable_cores, which_worker

FLAGS = (None, True, False)  # of a command without --fp16, with it, and with --no-fp16


def test_flags_choose_the_worker_and_torchrun_where_there_are_none(monkeypatch):
    assert which_worker(0, 1) == (0, 1)
    assert which_worker(2, 3) == (2, 3)
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert which_worker(0, 1) == (0, 1)  # some clusters set it alone
    monkeypatch.setenv("RANK", "5")
    assert which_worker(0, 1) == (5, 8)
    assert which_worker(2, 3) == (2, 3)


@pytest.mark.parametrize(
    ("shard_id", "num_shards", "message"),
    [
        (0, 0, "^--num-shards is 0; it must be 1 or more$"),
        (3, 3, "^--shard-id is 3; it must be from 0 to 2, since --num-shards is 3$"),
        (-1, 2, "^--shard-id is -1; it must be from 0 to 1, since --num-shards is 2$"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(shard_id, num_shards, message):
    with pytest.raises(UserError, match=message):
        which_worker(shard_id, num_shards)


def test_workers_of_a_machine_share_out_its_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of_worker() == torch.device("cpu")
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert device_of_worker() == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "6")
    device_of_worker()
    assert chosen == [0, 2]


def test_models_compute_in_half_precision_on_a_gpu_unless_told_otherwise():
    chosen = {(device, fp16): precision_on(torch.device(device), fp16) for device in ("cpu", "cuda") for fp16 in FLAGS}
    assert [key for key, dtype in chosen.items() if dtype == torch.float16] == [
        ("cpu", True),
        ("cuda", None),
        ("cuda", True),
    ]
    assert set(chosen.values()) == {torch.float16, torch.float32}


def test_a_process_uses_only_the_cores_that_it_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)
