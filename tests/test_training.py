"""Killed, restarted and spread over workers, training gives the numbers of one undisturbed run."""

import socket
import time

import pytest
import torch
from conftest import EVERY_METHOD, TINY_TRANSFORMER, TRAINING, Run, method_flags, train_here
from fairseq.criterions import CRITERION_REGISTRY
from fairseq_cli import train
from worker import Worker

INDEPENDENT = [method for method in EVERY_METHOD if CRITERION_REGISTRY[method].tokens_are_independent]
WITHOUT_VALIDATION = {"online_kd": ["--online-patience", "0"]}  # flags with which a method does its work
STOP_AT_ONCE = ["--stop-time-hours", "1e-9"]  # after one update; --max-update would tell a schedule another length


def start_worker(data, save_dir, *arguments) -> Worker:
    """fairseq-train in a process of its own."""
    name = f"{time.monotonic_ns()}.log"
    return Worker(
        train.cli_main, [data, *TINY_TRANSFORMER, *TRAINING, "--save-dir", save_dir, *arguments], save_dir / name
    )


def finish(*workers: Worker) -> None:
    for worker in workers:
        worker.finish()


def assert_same_parameters(run: Run, other: Run, **tolerance):
    torch.testing.assert_close(
        run.checkpoint()["model"], other.checkpoint()["model"], **(tolerance or {"rtol": 0, "atol": 0})
    )


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_restarted_training_equals_an_undisturbed_one_to_the_bit(method, data, teacher_path, tmp_path):
    flags = method_flags(
        method, teacher_path, "--disable-validation", "--save-interval-updates", "3", "--max-update", "8"
    )
    flags += WITHOUT_VALIDATION.get(method, [])
    undisturbed = train_here(data, tmp_path / "a", *flags)
    train_here(data, tmp_path / "b", *flags, *STOP_AT_ONCE)
    restarted = train_here(data, tmp_path / "b", *flags)
    assert len(restarted.statistics["train_inner"]) == 7
    assert restarted.values("train_inner", "loss") == undisturbed.values("train_inner", "loss")[1:]
    assert_same_parameters(restarted, undisturbed)


def test_a_training_restarted_in_a_later_epoch_has_the_batches_of_the_first(data, teacher_path, tmp_path):
    """fairseq alone would divide the data into other batches, since it draws them in the epoch in which it starts."""
    flags = method_flags("word_kd", teacher_path, "--disable-validation", "--max-tokens", "2000")
    undisturbed = train_here(data, tmp_path / "a", *flags, "--max-epoch", "2")
    train_here(data, tmp_path / "b", *flags, "--max-epoch", "1")
    restarted = train_here(data, tmp_path / "b", *flags, "--max-epoch", "2")
    losses = restarted.values("train_inner", "loss")
    assert 2 < len(losses) == len(undisturbed.values("train_inner", "loss")) // 2
    assert losses == undisturbed.values("train_inner", "loss")[-len(losses) :]
    assert_same_parameters(restarted, undisturbed)


def test_a_killed_training_goes_on_where_it_was(data, teacher_path, tmp_path):
    flags = method_flags(
        "word_kd", teacher_path, "--disable-validation", "--save-interval-updates", "2", "--max-update", "60"
    )
    killed = start_worker(data, tmp_path / "killed", *flags)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoint_1_1*.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.kill()
    finish(start_worker(data, tmp_path / "killed", *flags))
    undisturbed = start_worker(data, tmp_path / "undisturbed", *flags)
    finish(undisturbed)
    assert_same_parameters(Run(tmp_path / "killed"), Run(tmp_path / "undisturbed"))


@pytest.mark.parametrize("limit", [["--max-update", "6"], ["--max-epoch", "2"]])
def test_a_finished_training_that_is_started_again_changes_nothing(limit, data, teacher_path, tmp_path, caplog):
    """It was killed after it had written its last checkpoint; fairseq alone would make another update each time."""
    flags = method_flags("word_kd", teacher_path, "--save-interval-updates", "2", *limit)
    first = train_here(data, tmp_path, *flags)
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert first.statistics["valid"]
    again = train_here(data, tmp_path, *flags)
    assert again.statistics == {}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == contents
    if "--max-update" in limit:
        assert "nothing left to train: the checkpoint has 6 of 6 updates" in caplog.text
        longer = train_here(data, tmp_path, *flags, "--max-update", "8")
        assert len(longer.statistics["train_inner"]) == 2


def test_a_finished_model_can_be_trained_further_with_a_fresh_optimiser(data, tmp_path):
    flags = ["--criterion", "cross_entropy", "--disable-validation", "--max-update", "2"]
    first = train_here(data, tmp_path / "first", *flags).save_dir / "checkpoint_last.pt"
    run = train_here(data, tmp_path / "second", *flags, "--restore-file", first, "--reset-optimizer")
    assert len(run.statistics["train_inner"]) == 2


def test_validation_on_the_training_set_leaves_the_training_as_it_is(data, tmp_path):
    flags = ["--criterion", "cross_entropy", "--max-update", "4", "--validate-interval-updates", "2"]
    runs = [train_here(data, tmp_path / name, *flags, "--valid-subset", name) for name in ("valid", "train")]
    assert_same_parameters(*runs)
    places = [run.checkpoint()["extra_state"]["train_iterator"] for run in runs]
    assert places[0] == places[1]
    assert (places[0]["epoch"], places[0]["iterations_in_epoch"]) == (1, 4)
    validations = [record for record in runs[1].statistics["train"] if "train_lr" not in record]
    assert [record["train_num_updates"] for record in validations] == ["2", "4"]


def two_workers(data, save_dir, backend, *flags) -> list[Worker]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = [
        *("--distributed-init-method", f"tcp://127.0.0.1:{port}", "--distributed-world-size", "2"),
        *("--distributed-no-spawn", "--distributed-backend", "gloo", "--ddp-backend", backend),
    ]
    return [start_worker(data, save_dir, *flags, *shared, "--distributed-rank", str(rank)) for rank in range(2)]


@pytest.mark.parametrize(
    ("method", "backend"),
    # torch's own wrapper is the stricter one; what differs in fairseq's is no matter of the method
    [*((method, "pytorch_ddp") for method in INDEPENDENT), ("word_kd", "legacy_ddp"), ("tie_kd", "legacy_ddp")],
)
def test_two_workers_equal_one_worker_with_twice_the_batch(method, backend, data, teacher_path, tmp_path):
    """Where there is a restart, rank 0 hands the checkpoint on to the other worker."""
    flags = method_flags(method, teacher_path, "--disable-validation", "--dropout", "0", "--max-update", "4")
    flags += WITHOUT_VALIDATION.get(method, [])
    alone = train_here(data, tmp_path / "alone", *flags, "--update-freq", "2")
    with_a_restart = method in ("word_kd", "seer_forcing")  # what it does is no matter of the method
    for stop in (STOP_AT_ONCE, []) if with_a_restart else ([],):
        finish(*two_workers(data, tmp_path / "both", backend, *flags, *stop))
    assert_same_parameters(Run(tmp_path / "both"), alone, rtol=1e-4, atol=2e-5)
