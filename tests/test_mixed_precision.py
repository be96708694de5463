"""Every method in half precision, 100 updates each: finite, the loss falls, and ends where float32's does."""

import statistics

import pytest
from conftest import METHODS, method_flags, train_here

MODES = {
    "fp16": {"fp16": True, "fp16_no_flatten_grads": True},
    "memory-efficient-fp16": {"fp16": True, "memory_efficient_fp16": True},
    "bf16": {"bf16": True},  # the flag --bf16 means TPUs; through fairseq-hydra-train it is this setting
}
# Rounding changes what a student samples; without validation, online_kd would not distil.
FLAGS = {"gkd": ["--gkd-lambda", "0"], "online_kd": ["--online-patience", "0"]}
TOLERANCE = 0.02  # of the loss


@pytest.fixture(scope="module")
def train_100(data, teacher_path, tmp_path_factory):
    def train_100(method, **common):
        flags = method_flags(method, teacher_path, *FLAGS.get(method, []), "--disable-validation", "--no-save")
        small = ["--max-tokens", "200", "--max-update", "100", "--lr", "0.002", "--dropout", "0"]
        run = train_here(data, tmp_path_factory.mktemp(method), *flags, *small, common=common)
        return run.values("train_inner", "loss")

    return train_100


@pytest.fixture(scope="module", params=METHODS)
def float32(request, train_100):
    return request.param, train_100(request.param)


@pytest.mark.parametrize("mode", MODES)
def test_training_ends_where_float32_does(mode, float32, train_100):
    method, expected = float32
    losses = train_100(method, **MODES[mode])
    # in the first half, for annealing ends on another loss than it starts with; nothing infinite compares
    assert statistics.mean(losses[45:60]) < statistics.mean(losses[:15])
    assert statistics.mean(losses[-15:]) == pytest.approx(statistics.mean(expected[-15:]), rel=TOLERANCE)
