"""The masked teacher against a slow form, one sentence and one pass at a time, and what is refused."""

import math

import pytest
import torch
from conftest import TINY_TRANSFORMER, train_here
from fairseq import checkpoint_utils

from nmt_kd.caching.sources import masked
from nmt_kd.caching.store import read_store, sentences
from nmt_kd.cli import main

MASKED_MODEL = ["--arch", "cmlm_transformer", *TINY_TRANSFORMER[2:]]
MASKED_TRAINING = ["--task", "translation_lev", "--criterion", "nat_loss", "--noise", "random_mask"]


@pytest.fixture(scope="module")
def masked_teacher(data, tmp_path_factory):
    """A masked model trained just long enough to know what it is about."""
    flags = [*MASKED_TRAINING, "--label-smoothing", "0.1", "--disable-validation", "--max-update", "150", "--lr", "0.01"]
    run = train_here(data, tmp_path_factory.mktemp("masked"), *flags, architecture=MASKED_MODEL)
    return run.save_dir / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def store(data, masked_teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "out"
    main(["cache", str(data), "--source", "masked", "--teacher-path", str(masked_teacher), str(folder)])
    return folder


def test_x(store, task):
    hits = n = first = 0
    for (source, target), (words, log_q, rest) in zip(sentences(task, "valid"), read_store(store, task, "valid"), strict=True):
        n += len(target) - 1
        hits += int((words == target[:, None]).any(1).sum())
        first += int((words[:,0] == target).sum())
    print(hits / n, first/n, n)
    assert 0
