"""Selective KD against a list-based form, and its queue through restarts, half precision and several workers."""

import math

import pytest
import torch
from conftest import TINY_TRANSFORMER, Run, method_flags, parse_training, train_here
from criterions.test_contract import loss_and_gradients
from fairseq.utils import move_to_cpu
from test_training import assert_same_parameters, finish, two_workers
from torch.nn import functional

from nmt_kd.errors import UserError, user_error_in

KINDS = ["training", "dummy", "training", "validation", "training"]
GLOBAL = ["--selection", "global", "--selection-queue-size", "300"]


def token_terms(student, teacher, sample, padding, label_smoothing=0.1):
    """Smoothed cross-entropy, plain NLL and divergence of each target token, with whole tensors."""
    kept = sample["target"].ne(padding)
    log_p = student(**sample["net_input"])[0].log_softmax(-1)[kept]
    with torch.no_grad():
        log_q = teacher(**sample["net_input"])[0].log_softmax(-1)[kept]
    nll = -log_p.gather(-1, sample["target"][kept].unsqueeze(-1)).squeeze(-1)
    share = label_smoothing / (log_p.size(-1) - 1)
    cross_entropy = (1 - label_smoothing - share) * nll - share * log_p.sum(-1)
    return cross_entropy, nll, functional.kl_div(log_p, log_q, log_target=True, reduction="none").sum(-1)


def expected_loss(criterion, student, sample, selected, alpha=1.0, interpolate=False):
    cross_entropy, _, divergence = token_terms(student, criterion.teacher.models[0], sample, criterion.padding_idx)
    total = 0.0
    for ce, kd, chosen in zip(cross_entropy, divergence, selected, strict=True):
        total = total + ((1 - alpha) * ce if chosen and interpolate else ce) + (alpha * kd if chosen else 0.0)
    return total


def plain_scores(criterion, student, sample):
    return token_terms(student, criterion.teacher.models[0], sample, criterion.padding_idx)[1].tolist()


def batches(task, sizes):
    dataset = task.dataset("test")
    start = 0
    for size in sizes:
        yield dataset.collater([dataset[index] for index in range(start, start + size)])
        start += size


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("interpolate", [False, True])
def test_batch_level_distils_the_hardest_tokens_of_the_batch(build, sample, rate, interpolate):
    flags = ["--selection", "batch", "--selection-rate", rate, "--kd-alpha", "0.7"]
    criterion, student = build("selective_kd", *flags, *(["--selection-interpolate"] if interpolate else []))
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    scores = plain_scores(criterion, student, sample)
    hardest = sorted(range(len(scores)), key=lambda index: -scores[index])[: math.ceil(rate * len(scores))]
    student.zero_grad()
    selected = [index in hardest for index in range(len(scores))]
    expected = expected_loss(criterion, student, sample, selected, 0.7, interpolate)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("queue_size", [20, 150, 30000])
def test_global_level_pushes_first_and_selects_by_the_queue(build, task, sample, queue_size):
    criterion, student = build("selective_kd", "--selection", "global", "--selection-queue-size", queue_size)
    queue = []
    for batch in batches(task, [2, 1, 6, 3]):
        scores = plain_scores(criterion, student, batch)
        queue = (queue + scores)[-queue_size:]
        threshold = sorted(queue, reverse=True)[math.ceil(0.5 * len(queue)) - 1]
        selected = [score >= threshold - 1e-6 for score in scores]
        loss, _, _ = criterion(student, batch)
        torch.testing.assert_close(loss.detach(), expected_loss(criterion, student, batch, selected).detach())
        assert criterion.queue.values.tolist() == pytest.approx(queue, rel=1e-5)


@pytest.mark.parametrize("threshold", [0.001, 0.005, 0.02, 0.5])
@pytest.mark.parametrize("interpolate", [False, True])
def test_a_threshold_distils_the_tokens_of_low_probability(build, sample, threshold, interpolate):
    flags = ["--selection", "threshold", "--selection-threshold", threshold, "--kd-alpha", "0.7"]
    criterion, student = build("selective_kd", *flags, *(["--selection-interpolate"] if interpolate else []))
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    scores = plain_scores(criterion, student, sample)
    selected = [math.exp(-score) <= threshold for score in scores]
    student.zero_grad()
    expected = expected_loss(criterion, student, sample, selected, 0.7, interpolate)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, parameter in trained(student):
        torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_thresholds_between_the_limits_select_some_tokens_and_more_if_they_are_higher(build, sample):
    counts = []
    for threshold in (0.001, 0.005, 0.02, 0.5):
        criterion, student = build("selective_kd", "--selection", "threshold", "--selection-threshold", threshold)
        counts.append(int(criterion.select(torch.tensor(plain_scores(criterion, student, sample))).sum()))
    assert counts == sorted(counts)
    assert 0 < counts[1] < sample["ntokens"]


@pytest.mark.parametrize("threshold", [0.5, 0.25, 0.2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_token_of_exactly_the_threshold_is_selected(build, task, sample, threshold, dtype):
    """The student finds 1 / threshold words equally probable, and no others."""
    criterion, _ = build("selective_kd", "--selection", "threshold", "--selection-threshold", threshold)
    gold = torch.arange(len(task.target_dictionary))
    logits = torch.full((len(gold), len(gold)), -1e4, dtype=dtype)
    logits[:, : round(1 / threshold)] = 3.0
    scores = -logits.float().log_softmax(-1).diagonal()
    assert criterion.select(scores).all()  # those of no probability too
    below = logits.clone()
    below[:, 0] += 0.01  # the first word is now above it
    scores = -below.float().log_softmax(-1).diagonal()
    assert criterion.select(scores).tolist() == [False, *[True] * (len(gold) - 1)]


def test_the_threshold_zero_is_the_plain_cross_entropy(build, task, data, sample):
    criterion, student = build("selective_kd", "--selection", "threshold", "--selection-threshold", 0)
    flags = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
    stock = task.build_criterion(parse_training([data, *TINY_TRANSFORMER, *flags]).criterion)
    ours, theirs = (loss_and_gradients(kind, student, sample)[:2] for kind in (criterion, stock))
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-3, atol=1e-4)


def test_with_a_threshold_tokens_are_independent_and_there_is_no_state(build, task, sample):
    criterion, student = build("selective_kd", "--selection", "threshold", "--selection-threshold", "0.005")
    assert criterion.tokens_are_independent
    parts = [loss_and_gradients(criterion, student, batch) for batch in batches(task, [2, 4])]
    whole = loss_and_gradients(criterion, student, sample)
    torch.testing.assert_close(sum(loss for loss, _, _ in parts), whole[0])
    for name, gradient in whole[1].items():
        torch.testing.assert_close(sum(part[1][name] for part in parts), gradient, rtol=1e-3, atol=1e-4)
    assert criterion.queue is None
    assert criterion.get_extra_state() == {}


def test_a_threshold_works_in_half_precision(build, sample):
    criterion, student = build("selective_kd", "--selection", "threshold", "--selection-threshold", "0.005")
    full, _, _ = criterion(student, sample)
    criterion.half()
    student.half()
    half, _, _ = criterion(student, sample)
    torch.testing.assert_close(half.float(), full, rtol=0.02, atol=0)


def test_validation_and_dummy_batches_between_training_batches_are_never_pushed(build, task, sample):
    criterion, student = build("selective_kd", "--selection", "global", "--selection-queue-size", 150)
    queue, losses = [], []

    class Optimizer:
        @staticmethod
        def backward(loss):
            losses.append(loss.detach())
            loss.backward()

    for update, (kind, batch) in enumerate(zip(KINDS, batches(task, [2, 1, 3, 2, 2]), strict=True)):
        student.zero_grad()
        if kind == "validation":
            criterion.eval()
            task.valid_step(batch, student, criterion)
            criterion.train()
            student.train()
        else:
            task.train_step(batch, student, criterion, Optimizer(), update, ignore_grad=kind == "dummy")
        if kind != "training":
            assert criterion.queue.values.tolist() == pytest.approx(queue, rel=1e-5)
            continue
        gradient = {name: parameter.grad.clone() for name, parameter in trained(student)}
        scores = plain_scores(criterion, student, batch)
        queue = (queue + scores)[-150:]
        threshold = sorted(queue, reverse=True)[math.ceil(0.5 * len(queue)) - 1]
        student.zero_grad()
        selected = [score >= threshold - 1e-6 for score in scores]
        expected = expected_loss(criterion, student, batch, selected)
        expected.backward()
        torch.testing.assert_close(losses[-1], expected.detach())
        for name, parameter in trained(student):
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-3, atol=1e-4)


def trained(student):
    return [(name, parameter) for name, parameter in student.named_parameters() if parameter.grad is not None]


@pytest.mark.parametrize(
    "selection", [("batch", "--selection-rate"), ("global", "--selection-rate"), ("threshold", "--selection-threshold")]
)
def test_all_tokens_selected_and_interpolated_is_word_kd_to_the_bit(build, sample, selection):
    level, share = selection
    flags = ["--selection", level, share, 1, "--selection-interpolate", "--kd-alpha", "0.5"]
    ours = loss_and_gradients(*build("selective_kd", *flags), sample)
    theirs = loss_and_gradients(*build("word_kd"), sample)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_scores_of_a_half_precision_student_are_kept_in_float32(build, sample):
    criterion, student = build("selective_kd")
    criterion.half()
    student.half()
    criterion(student, sample)
    assert criterion.queue.values.dtype == torch.float32
    assert not torch.equal(criterion.queue.values, criterion.queue.values.half().float())


def test_scores_that_float16_would_round_survive_the_state_of_a_half_precision_criterion(build):
    scores = torch.tensor([2049.0, 70000.5, 1.2345678, 6.1e-9])
    (criterion, _), (restored, _) = build("selective_kd"), build("selective_kd")
    criterion.half().queue.push(scores)
    restored.half().load_state_dict(move_to_cpu(criterion.state_dict()))
    assert torch.equal(restored.queue.values, scores)


def queue_of(run: Run) -> torch.Tensor:
    return run.checkpoint()["criterion"]["_extra_state"]["values"]


def test_a_restart_goes_on_with_the_queue_to_the_bit(data, teacher_path, tmp_path):
    flags = method_flags("selective_kd", teacher_path, "--disable-validation", *GLOBAL, "--save-interval-updates", "3")
    undisturbed = train_here(data, tmp_path / "a", *flags, "--max-update", "6")
    train_here(data, tmp_path / "b", *flags, "--max-update", "3")
    restarted = train_here(data, tmp_path / "b", *flags, "--max-update", "6")
    assert_same_parameters(restarted, undisturbed)
    assert queue_of(restarted).numel() == 300
    assert torch.equal(queue_of(restarted), queue_of(undisturbed))


def test_the_queue_survives_a_restart_in_half_precision(data, teacher_path, tmp_path):
    """The queue alone: fairseq itself rounds the parameters that it saves in half precision."""
    flags = method_flags(
        "selective_kd", teacher_path, "--disable-validation", "--selection", "global", "--save-interval-updates", "2"
    )
    flags += ["--fp16", "--fp16-no-flatten-grads"]
    before = queue_of(train_here(data, tmp_path, *flags, "--max-update", "2"))
    after = queue_of(train_here(data, tmp_path, *flags, "--max-update", "3"))
    assert before.numel() < after.numel()
    assert torch.equal(after[: before.numel()], before)


def test_workers_share_one_queue_through_restarts_and_one_worker_goes_on_with_it(data, teacher_path, tmp_path):
    flags = method_flags(
        "selective_kd", teacher_path, "--disable-validation", "--selection", "global", "--save-interval-updates", "2"
    )
    finish(*two_workers(data, tmp_path / "whole", "legacy_ddp", *flags, "--max-update", "4"))
    for last_update in ("2", "4"):
        finish(*two_workers(data, tmp_path / "parts", "legacy_ddp", *flags, "--max-update", last_update))
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    assert_same_parameters(parts, whole)
    assert torch.equal(queue_of(parts), queue_of(whole))
    alone = train_here(data, tmp_path / "alone", *flags, "--max-update", "4", "--update-freq", "2")
    assert queue_of(whole).numel() == queue_of(alone).numel()  # the scores of both workers
    before = queue_of(parts)
    gone_on = train_here(data, tmp_path / "parts", *flags, "--max-update", "5")
    assert torch.equal(queue_of(gone_on)[: before.numel()], before)
    assert queue_of(gone_on).numel() > before.numel()


def test_workers_that_select_in_their_batches_equal_one_worker_that_adds_them_up(data, teacher_path, tmp_path):
    flags = method_flags(
        "selective_kd",
        teacher_path,
        "--disable-validation",
        "--selection",
        "batch",
        "--dropout",
        "0",
        "--max-update",
        "3",
    )
    finish(*two_workers(data, tmp_path / "both", "pytorch_ddp", *flags))
    alone = train_here(data, tmp_path / "alone", *flags, "--update-freq", "2")
    assert_same_parameters(Run(tmp_path / "both"), alone, rtol=1e-4, atol=2e-5)


def test_a_queue_of_another_size_is_refused(data, teacher_path, tmp_path):
    flags = method_flags(
        "selective_kd", teacher_path, "--disable-validation", "--selection", "global", "--save-interval-updates", "1"
    )
    train_here(data, tmp_path, *flags, "--max-update", "1", "--selection-queue-size", "300")
    with pytest.raises(Exception, match="Cannot load model parameters") as error:  # fairseq's, and ours behind it
        train_here(data, tmp_path, *flags, "--max-update", "2", "--selection-queue-size", "400")
    assert user_error_in(error.value) == (
        "--selection-queue-size is 400, but the checkpoint has a queue of 300; "
        "resume with --selection-queue-size 300, or train in another --save-dir"
    )


def test_a_plain_students_checkpoint_can_be_taken_up(data, teacher_run, teacher_path, tmp_path):
    flags = method_flags(
        "selective_kd", teacher_path, "--disable-validation", "--selection", "global", "--max-update", "2"
    )
    widths = ["--encoder-embed-dim", "24", "--decoder-embed-dim", "24"]  # the teacher's, which was trained plainly
    restore = ["--restore-file", teacher_path, "--reset-optimizer", "--reset-dataloader", "--reset-meters"]
    run = train_here(data, tmp_path, *flags, *widths, *restore, "--reset-lr-scheduler")
    assert len(run.statistics["train_inner"]) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--selection-rate", "0"], "--selection-rate is 0.0; it must be above 0 and at most 1"),
        (["--selection-rate", "1.5"], "--selection-rate is 1.5; it must be above 0 and at most 1"),
        (["--selection", "sentence"], "--selection is sentence; it must be batch, global or threshold"),
        (
            ["--selection", "threshold"],
            "--selection threshold needs --selection-threshold, a probability from 0 to 1",
        ),
        (
            ["--selection-threshold", "0.5"],
            "--selection-threshold is an option of --selection threshold, not of --selection global",
        ),
        (
            ["--selection", "threshold", "--selection-threshold", "1.1"],
            "--selection-threshold is 1.1; it must be from 0 to 1",
        ),
        (["--selection-queue-size", "0"], "--selection-queue-size is 0; it must be 1 or more"),
        (["--kd-alpha", "-1"], "--kd-alpha is -1.0; it must be 0 or more"),
        (
            ["--kd-alpha", "1.5", "--selection-interpolate"],
            "--kd-alpha is 1.5; with --selection-interpolate it must be from 0 to 1",
        ),
    ],
)
def test_settings_that_make_no_sense_are_named(build, flags, message):
    with pytest.raises(UserError) as error:
        build("selective_kd", *flags)
    assert str(error.value) == message
