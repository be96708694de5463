"""Every method in half precision, 50 updates each: finite, the loss falls, and ends where float32's does."""

import functools
import statistics

import pytest
import torch
from conftest import METHODS, method_flags, train_here

MODES = {
    "fp16": {"fp16": True, "fp16_no_flatten_grads": True},
    "memory-efficient-fp16": {"fp16": True, "memory_efficient_fp16": True},
    "bf16": {"bf16": True},  # without the fix in nmt_kd/compat.py, the flag --bf16 would also mean a TPU
}
# Only fairseq's optimiser differs from fp16: a method without parameters and one with some are enough.
CASES = [
    (method, mode)
    for method in METHODS
    for mode in MODES
    if mode != "memory-efficient-fp16" or method in ("word_kd", "ckd")
]
# Rounding changes what a student samples; without validation, online_kd would not distil.
FLAGS = {"gkd": ["--gkd-lambda", "0"], "online_kd": ["--online-patience", "0"]}
TOLERANCE = 0.02  # of the loss


@pytest.fixture(scope="module")
def train_briefly(data, teacher_path, tmp_path_factory):
    def train_briefly(method, **common):
        flags = method_flags(method, teacher_path, *FLAGS.get(method, []), "--disable-validation", "--no-save")
        small = ["--max-tokens", "200", "--max-update", "50", "--lr", "0.004", "--dropout", "0"]
        with torch.backends.mkldnn.flags(enabled=False):  # slow in bfloat16 on CPUs without support for it
            run = train_here(data, tmp_path_factory.mktemp(method), *flags, *small, common=common)
        return run.values("train_inner", "loss")

    return train_briefly


@pytest.fixture(scope="module")
def in_float32(train_briefly):
    return functools.cache(train_briefly)


@pytest.mark.parametrize(("method", "mode"), CASES)
def test_training_ends_where_float32_does(method, mode, in_float32, train_briefly):
    expected = in_float32(method)
    losses = train_briefly(method, **MODES[mode])
    # in the first half, for annealing ends on another loss than it starts with; nothing infinite compares
    assert statistics.mean(losses[18:26]) < statistics.mean(losses[:8])
    assert statistics.mean(losses[-10:]) == pytest.approx(statistics.mean(expected[-10:]), rel=TOLERANCE)
