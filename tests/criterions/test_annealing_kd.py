"""Annealing KD: both stages, both forms, and a schedule that restarts do not move."""

import pytest
import torch
from conftest import train_here
from criterions.test_contract import loss_and_gradients
from criterions.test_tie_kd import count_calls
from test_training import assert_same_parameters, method_flags
from torch.nn import functional

from nmt_kd.errors import UserError


def at_update(build, update, *flags, max_update=90):
    """The criterion and the student of `build` at some update of a training of that length."""
    criterion, student = build("annealing_kd", "--max-update", max_update, *flags)
    criterion.progress.updates = update
    return criterion, student


@pytest.mark.parametrize(("update", "expected"), [(0, 1.1), (29, 1.1 - 0.1 * 29 / 59), (59, 1.0), (60, 1.0)])
def test_the_temperature_falls_linearly_over_two_thirds_of_the_training(build, update, expected):
    criterion, _ = at_update(build, update)
    assert criterion.temperature == pytest.approx(expected, rel=1e-12)
    assert criterion.distils == (update < 60)


def logits_of(criterion, student, sample):
    kept = sample["target"].ne(criterion.padding_idx)
    with torch.no_grad():
        teacher_logits = criterion.teacher.models[0](**sample["net_input"])[0][kept]
    return student(**sample["net_input"])[0][kept], teacher_logits


def compare(criterion, student, sample, expected):
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    student.zero_grad()
    expected(*logits_of(criterion, student, sample)).backward()
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(loss, expected(*logits_of(criterion, student, sample)).detach())


@pytest.mark.parametrize("update", [0, 30, 59])
def test_the_first_stage_matches_the_softened_teacher_alone(build, sample, update):
    temperature = 1.1 - 0.1 * update / 59

    def expected(student_logits, teacher_logits):
        q = (teacher_logits / temperature).softmax(-1)
        return sum((q[row] * (q[row].log() - student_logits[row].log_softmax(-1))).sum() for row in range(len(q)))

    compare(*at_update(build, update), sample, expected)


@pytest.mark.parametrize("update", [0, 30, 59])
def test_the_original_form_matches_scaled_logits(build, sample, update):
    scale = min(1.0, 1 - (10 - 9 * update / 59 - 1) / 10)

    def expected(student_logits, teacher_logits):
        return sum(
            ((ours - scale * theirs) ** 2).mean() for ours, theirs in zip(student_logits, teacher_logits, strict=True)
        )

    compare(*at_update(build, update, "--annealing-loss", "mse"), sample, expected)


def test_the_second_stage_is_cross_entropy_without_any_work_of_the_teacher(build, sample):
    criterion, student = at_update(build, 60)
    teacher = criterion.teacher.models[0]
    calls = [count_calls(module) for module in (teacher, teacher.encoder, teacher.decoder)]

    def expected(student_logits, teacher_logits):
        gold = sample["target"][sample["target"].ne(criterion.padding_idx)]
        log_p = student_logits.log_softmax(-1)
        share = 0.1 / (log_p.size(-1) - 1)
        return (0.9 - share) * functional.nll_loss(log_p, gold, reduction="sum") - share * log_p.sum()

    logged = criterion(student, sample)[2]
    assert calls == [[], [], []]
    assert "kd_loss" not in logged
    compare(criterion, student, sample, expected)


def test_at_temperature_one_the_first_stage_is_word_kd_to_the_bit(build, sample):
    ours = loss_and_gradients(*at_update(build, 7, "--annealing-temperature", 1, "--kd-alpha", "0.5"), sample)
    theirs = loss_and_gradients(*build("word_kd"), sample)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_validation_reports_the_same_divergence_in_both_stages(build, sample):
    logged = []
    for update in (0, 80):
        criterion, student = at_update(build, update)
        criterion.eval()
        with torch.no_grad():
            logged.append(criterion(student.eval(), sample)[2])
    torch.testing.assert_close(logged[0], logged[1])


@pytest.mark.parametrize("batches", [["--update-freq", "1"], ["--update-freq", "2"], ["--update-freq", "2", "--skip"]])
def test_a_length_in_epochs_is_the_same_as_in_updates(data, teacher_path, tmp_path, batches):
    batches = ["--skip-remainder-batch" if flag == "--skip" else flag for flag in batches]
    flags = method_flags("annealing_kd", teacher_path, *batches)
    by_epoch = train_here(data, tmp_path / "epochs", *flags, "--max-epoch", "2")
    updates = str(len(by_epoch.statistics["train_inner"]))
    by_update = train_here(data, tmp_path / "updates", *flags, "--max-update", updates)
    assert by_epoch.values("train_inner", "loss") == by_update.values("train_inner", "loss")
    assert_same_parameters(by_epoch, by_update)


def test_epochs_whose_batches_are_not_known_are_refused(data, teacher_path, tmp_path):
    flags = method_flags("annealing_kd", teacher_path, "--max-epoch", "2", "--update-epoch-batch-itr", "True")
    with pytest.raises(UserError, match=r"^annealing_kd cannot tell how many updates an epoch has: .* give --max-upd"):
        train_here(data, tmp_path, *flags)


def test_a_restart_goes_on_with_the_schedule_over_the_change_of_stages(data, teacher_path, tmp_path):
    flags = method_flags("annealing_kd", teacher_path, "--max-update", "9", "--save-interval-updates", "5")
    undisturbed = train_here(data, tmp_path / "a", *flags)
    train_here(data, tmp_path / "b", *flags, "--stop-time-hours", "1e-9")
    restarted = train_here(data, tmp_path / "b", *flags)
    count = len(restarted.statistics["train_inner"])
    assert 3 < count < 9
    assert restarted.values("train_inner", "loss") == undisturbed.values("train_inner", "loss")[-count:]
    losses, cross_entropies = (undisturbed.values("train_inner", name) for name in ("loss", "ce_loss"))
    assert [loss == plain for loss, plain in zip(losses, cross_entropies, strict=True)] == [False] * 6 + [True] * 3
    assert_same_parameters(restarted, undisturbed)


@pytest.mark.parametrize("longer", [["--max-update", "14"], ["--max-update", "9", "--annealing-share", "1"]])
def test_the_first_stage_keeps_its_length_in_a_restart_with_other_settings_which_is_said(
    data, teacher_path, tmp_path, longer, caplog
):
    flags = method_flags("annealing_kd", teacher_path, "--disable-validation")
    train_here(data, tmp_path, *flags, "--max-update", "6")
    assert "annealing_kd keeps" not in caplog.text
    longer_run = train_here(data, tmp_path, *flags, *longer)
    losses, cross_entropies = (longer_run.values("train_inner", name) for name in ("loss", "ce_loss"))
    assert losses == cross_entropies  # the second stage
    assert caplog.text.count("annealing_kd keeps the first stage of 4 updates that this training began with") == 1


def test_a_training_that_begins_anew_from_a_checkpoint_has_the_first_stage_of_its_settings(
    data, teacher_path, tmp_path, caplog
):
    flags = method_flags("annealing_kd", teacher_path, "--disable-validation")
    first = train_here(data, tmp_path / "first", *flags, "--max-update", "3").save_dir / "checkpoint_last.pt"
    flags += ["--restore-file", first, "--reset-optimizer", "--reset-dataloader", "--reset-meters"]
    again = train_here(data, tmp_path / "again", *flags, "--max-update", "9")
    losses, cross_entropies = (again.values("train_inner", name) for name in ("loss", "ce_loss"))
    assert [loss == plain for loss, plain in zip(losses, cross_entropies, strict=True)] == [False] * 6 + [True] * 3
    assert "annealing_kd keeps" not in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--max-update", "0"],
            "annealing_kd needs to know the length of the training; give --max-update or --max-epoch",
        ),
        (
            ["--annealing-temperature", "0.5"],
            "--annealing-temperature is 0.5; it must be 1 or more, or 0 for the default",
        ),
        (["--annealing-loss", "l1"], "--annealing-loss is l1; it must be kl or mse"),
        (["--annealing-share", "1.5"], "--annealing-share is 1.5; it must be from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(build, flags, message):
    with pytest.raises(UserError) as error:
        build("annealing_kd", *flags)
    assert str(error.value).startswith(message)
