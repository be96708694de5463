"""scripts/benchmark.py measures the memory of losses as they are computed in training."""

import argparse

import benchmark
import pytest


@pytest.mark.parametrize("system", ["word_kd", benchmark.TEXTBOOK_WORD_KD])
def test_the_memory_of_losses_is_measured(system):
    args = argparse.Namespace(tokens=64, vocabulary=100, student_width=8, teacher_width=8)
    assert benchmark.loss_memory(args, system) >= 0
