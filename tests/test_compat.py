import importlib.util
import itertools
import shutil
import sys
from types import SimpleNamespace

import numpy
import pytest
import torch
from conftest import TINY_TRANSFORMER, TRAINING, Run, parse_training
from fairseq.data import data_utils
from fairseq.data.iterators import EpochBatchIterator, GroupedIterator
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq_cli import train
from worker import Worker

from nmt_kd import compat

IN_BF16 = [*TINY_TRANSFORMER, *TRAINING, "--criterion", "cross_entropy", "--bf16", "--max-update", "2"]


@pytest.mark.parametrize("sentences", [0, 1, 7, 8, 13, 500])
@pytest.mark.parametrize("multiple", [1, 8])
def test_batches_contain_every_sentence_once_and_in_order(sentences, multiple):
    lengths = numpy.sort(numpy.random.default_rng(0).integers(1, 60, sentences))
    batches = data_utils.batch_by_size(
        numpy.arange(sentences),
        lambda index: lengths[index],
        num_tokens_vec=lengths,
        max_tokens=300,
        required_batch_size_multiple=multiple,
    )
    assert [index for batch in batches for index in batch] == list(range(sentences))
    assert all(len(batch) * lengths[batch].max() <= 300 for batch in batches)


def test_an_interrupted_copy_leaves_the_earlier_checkpoint_intact(tmp_path, monkeypatch):
    last, new = tmp_path / "checkpoint_last.pt", tmp_path / "checkpoint_1_500.pt"
    last.write_bytes(b"the checkpoint before")
    new.write_bytes(b"a newer checkpoint")

    def killed(source, destination, size):
        destination.write(source.read(5))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", killed)
        with pytest.raises(KeyboardInterrupt):
            PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == b"the checkpoint before"
    assert PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == b"a newer checkpoint"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_1_500.pt", "checkpoint_last.pt"]


def test_bf16_trains_on_a_cpu_and_leaves_a_checkpoint(data, tmp_path):
    Worker(train.cli_main, [data, *IN_BF16, "--save-dir", tmp_path], tmp_path / "log").finish()
    state = Run(tmp_path).checkpoint()
    assert state["optimizer_history"][-1]["num_updates"] == 2
    for weights in state["model"].values():  # which fairseq saves in float32
        assert weights.isfinite().all()
        assert weights.equal(weights.bfloat16().float())


def test_fairseq_on_its_own_cannot_train_in_bf16_without_a_tpu(data, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed_utils, "call_main", distributed_utils.call_main.__wrapped__)
    monkeypatch.setattr(sys, "argv", ["fairseq-train", *map(str, [data, *IN_BF16, "--save-dir", tmp_path])])
    with pytest.raises(AttributeError, match="xla_device"):
        train.cli_main()


@pytest.mark.parametrize("has_tpu", [False, True])
def test_bf16_means_a_tpu_only_where_there_may_be_one(has_tpu, data, monkeypatch):
    find_spec, called, flash = importlib.util.find_spec, [], []
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: has_tpu or None if name == "torch_xla" else find_spec(name, *rest),
    )
    monkeypatch.setattr(torch.backends.cuda, "enable_flash_sdp", flash.append)
    monkeypatch.setattr(distributed_utils, "call_main", lambda cfg, main: called.append(cfg.common.tpu))
    compat.train_in_bf16_without_tpus()
    cfg = parse_training([data, *IN_BF16])
    assert cfg.common.tpu
    distributed_utils.call_main(cfg, None)
    assert called == [has_tpu]
    assert flash == ([] if has_tpu else [False])


def test_a_batch_that_fairseq_takes_again_is_told_from_the_next_one(monkeypatch):
    told = []

    class Trainer:
        task = SimpleNamespace()

        def train_step(self, samples, overflows=0):
            told.append(self.task.repeats_batches)
            return self.train_step(samples, overflows - 1) if overflows else None

    monkeypatch.setattr(compat, "Trainer", Trainer)
    compat.tell_repeated_batches()
    trainer = Trainer()
    for overflows in (0, 2, 0):
        trainer.train_step(["batch"], overflows)
    assert told == [False, False, True, True, False]


@pytest.mark.parametrize("new_batches_in_every_epoch", [False, True])
def test_batches_are_divided_anew_in_every_epoch_only_if_asked(task, monkeypatch, new_batches_in_every_epoch):
    task.load_dataset("test")
    dataset = task.dataset("test")
    drawn = []
    monkeypatch.setattr(dataset, "ordered_indices", lambda: drawn.append(numpy.random.rand()) or numpy.arange(8))
    for epoch in (1, 2, 3):  # as processes that start in these epochs, or as one
        task.get_batch_iterator(
            dataset,
            max_sentences=4,
            seed=5,
            epoch=epoch,
            disable_iterator_cache=True,
            update_epoch_batch_itr=new_batches_in_every_epoch,
        )
    seeds = [6, 7, 8] if new_batches_in_every_epoch else [6, 6, 6]
    expected = []
    for seed in seeds:
        with data_utils.numpy_seed(seed):
            expected.append(numpy.random.rand())
    assert drawn == expected


class WorkersOfAnEpoch:
    """The iterators of several workers, which train on numbered batches with `update_freq` of them per update each."""

    def __init__(self, batches: int, workers: int, update_freq: int, state: dict | None = None):
        numbers = numpy.arange(batches)
        self.iterators = [
            EpochBatchIterator(
                dataset=torch.utils.data.TensorDataset(torch.arange(batches)),
                collate_fn=lambda items: [int(number) for (number,) in items],
                batch_sampler=[[number] for number in numbers],
                num_shards=workers,
                shard_id=worker,
            )
            for worker in range(workers)
        ]
        for iterator in self.iterators:
            iterator.update_freq = update_freq
            if state is not None:
                iterator.load_state_dict(state)
        self.updates = zip(
            *(GroupedIterator(iterator.next_epoch_itr(), update_freq) for iterator in self.iterators), strict=True
        )

    def train(self, updates: int | None = None) -> list[int]:
        """Return the batches of the next updates, or of all that are left."""
        steps = itertools.islice(self.updates, updates)
        return [number for update in steps for part in update for batch in part for number in batch]


@pytest.mark.parametrize(
    ("before", "after"), [((1, 4), (2, 2)), ((2, 2), (1, 4)), ((4, 1), (2, 2)), ((1, 6), (3, 2)), ((2, 2), (2, 2))]
)
@pytest.mark.parametrize("updates", [1, 5, 14])
def test_training_resumes_with_the_next_batch_whatever_the_number_of_workers(before, after, updates):
    batches = 96
    first = WorkersOfAnEpoch(batches, *before)
    trained = first.train(updates)
    resumed = WorkersOfAnEpoch(batches, *after, state=first.iterators[0].state_dict())
    assert sorted(trained + resumed.train()) == list(range(batches))
    assert all(iterator.end_of_epoch() for iterator in resumed.iterators)


@pytest.mark.parametrize("updates", [1, 7, 23])
@pytest.mark.parametrize("batches", [60, 150])
def test_training_resumes_at_the_same_share_of_an_epoch_with_other_batches(updates, batches):
    first = WorkersOfAnEpoch(100, workers=1, update_freq=4)
    first.train(updates)
    resumed = WorkersOfAnEpoch(batches, workers=2, update_freq=3, state=first.iterators[0].state_dict())
    left = len(resumed.train())
    expected = batches * (1 - updates * 4 / 100)
    assert expected <= left < expected + 2 * 3 + 2  # at most another update, and the batch that evens the workers out
    assert all(iterator.end_of_epoch() for iterator in resumed.iterators)


def test_a_checkpoint_of_stock_fairseq_is_resumed_after_as_many_batches():
    first = WorkersOfAnEpoch(12, workers=1, update_freq=2)
    first.train(2)
    state = first.iterators[0].state_dict()
    resumed = WorkersOfAnEpoch(12, 1, 2, {name: state[name] for name in state if name not in ("batches", "workers")})
    assert len(resumed.train()) == 8


def test_the_place_in_an_epoch_is_that_of_whole_updates_of_the_training(monkeypatch):
    class Trainer:
        cfg = SimpleNamespace(optimization=SimpleNamespace(update_freq=[4, 2]))

        def get_train_iterator(self, epoch):
            return SimpleNamespace()

    monkeypatch.setattr(compat, "Trainer", Trainer)
    for name in ("state_dict", "load_state_dict"):  # so that they are restored afterwards
        monkeypatch.setattr(EpochBatchIterator, name, getattr(EpochBatchIterator, name))
    compat.keep_place_with_other_workers()
    assert [Trainer().get_train_iterator(epoch).update_freq for epoch in (1, 2, 3)] == [4, 2, 2]
