import copy

import pytest
import torch
from conftest import Run, train_here
from criterions.test_contract import loss_and_gradients
from fairseq.tasks.multilingual_translation import MultilingualTranslationTask

from nmt_kd.criterions.online_kd import OnlineKD
from nmt_kd.errors import UserError

ALWAYS = ["--online-patience", 0]
TRAINED = [
    *("--criterion", "online_kd", "--dropout", "0.1", "--lr", "0.05", "--label-smoothing", "0.1"),
    *("--validate-interval-updates", "2", "--save-interval-updates", "4", "--keep-interval-updates", "1"),
    *("--online-ema-rate", "0.3"),
]


def step(criterion, student, sample, update, result=None):
    """A training step at an update, after a validation with this result."""
    if result is not None:
        criterion.task.post_validate(student, {"num_updates": update, "loss": result}, None)
    criterion.progress.updates = update
    return loss_and_gradients(criterion, student, sample)


def move(student):
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def test_no_new_best_turns_distillation_on_and_a_new_best_turns_it_off(build, sample):
    criterion, student = build("online_kd", "--online-patience", 2)
    seen = []
    for update, result in enumerate([None, 5.0, 6.0, 6.0, 5.5, 5.0, 5.5, 5.5]):
        logged = step(criterion, student, sample, update, result)[2]
        seen.append("kd_loss" in logged)
    assert seen == [False, False, False, True, True, False, False, True]


@pytest.mark.parametrize("kind", ["ema", "best"])
def test_the_teacher_is_the_average_or_the_weights_at_the_best_validation(build, sample, kind):
    criterion, student = build("online_kd", "--online-teacher", kind, "--online-ema-rate", 0.3)
    average, results = None, {3: 4.0, 5: 4.5}
    for update in range(7):
        weights = {name: value.detach().clone() for name, value in student.named_parameters()}
        average = weights if average is None else {
            name: 0.7 * average[name] + 0.3 * value for name, value in weights.items()
        }  # fmt: skip
        if update == 3:
            expected = average if kind == "ema" else weights
        for _ in range(2):  # two batches of an update count once
            _, _, logged = step(criterion, student, sample, update, results.get(update))
        move(student)
    torch.testing.assert_close(dict(criterion.teacher.models[0].named_parameters()), expected)
    assert "kd_loss" in logged


def test_the_loss_equals_the_textbook_form_in_value_and_gradients(build, sample):
    criterion, student = build("online_kd", *ALWAYS, "--kd-alpha", 0.3, "--kd-chunk-tokens", 7)
    step(criterion, student, sample, 0)
    past = copy.deepcopy(student).eval()
    move(student)
    loss, gradient, _ = step(criterion, student, sample, 1)
    student.zero_grad()
    kept = sample["target"].ne(criterion.padding_idx)
    with torch.no_grad():
        log_q = past(**sample["net_input"])[0][kept].log_softmax(-1)
    log_p = student(**sample["net_input"])[0][kept].log_softmax(-1)
    share = 0.1 / (log_p.size(-1) - 1)
    nll = -log_p.gather(-1, sample["target"][kept].unsqueeze(-1)).sum()
    expected = 0.7 * ((0.9 - share) * nll - share * log_p.sum()) + 0.3 * (log_q.exp() * (log_q - log_p)).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, value in student.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(gradient[name], value.grad, rtol=1e-3, atol=1e-4)


def test_alpha_0_is_the_plain_loss_to_the_bit(build, sample):
    losses = []
    for flags in (["--kd-alpha", 0, *ALWAYS], ["--kd-alpha", 0.5]):
        criterion, student = build("online_kd", *flags)
        step(criterion, student, sample, 0)
        losses.append(step(criterion, student, sample, 1)[:2])
    torch.testing.assert_close(*losses, rtol=0, atol=0)


def test_only_the_first_subset_of_a_validation_counts(build):
    criterion, student = build("online_kd")
    for result in (3.0, 4.0):
        criterion.task.post_validate(student, {"num_updates": 7, "loss": result}, None)
    assert (criterion.validations.take(), criterion.validations.take()) == (3.0, None)


def test_half_precision_keeps_the_average_in_float32(build, sample):
    criterion, student = build("online_kd", *ALWAYS)
    student.half()
    criterion.half()
    for update in range(3):
        loss, gradient, _ = step(criterion, student, sample, update)
    assert loss.isfinite()
    assert all(values.isfinite().all() for values in gradient.values())
    assert {value.dtype for value in criterion.average.values()} == {torch.float32}
    assert next(criterion.teacher.models[0].parameters()).dtype == torch.float16


def test_a_restart_continues_average_teacher_and_switches_to_the_bit(data, tmp_path):
    """The training stops between the validation that turns distillation on and the first batch that learns from it."""
    undisturbed = train_here(data, tmp_path / "a", *TRAINED, "--max-update", "20")
    on = [record for record in undisturbed.statistics["train_inner"] if "kd_loss" in record]
    assert 2 < len(on) < 20
    first = int(on[0]["num_updates"])
    assert first % 2 == 1
    train_here(data, tmp_path / "b", *TRAINED, "--max-update", str(first - 1))
    restarted = train_here(data, tmp_path / "b", *TRAINED, "--max-update", "20")
    assert restarted.values("train_inner", "loss") == undisturbed.values("train_inner", "loss")[first - 1 :]
    ours, theirs = (Run(tmp_path / name).checkpoint() for name in "ba")
    torch.testing.assert_close(ours["model"], theirs["model"], rtol=0, atol=0)
    for state in (ours, theirs):
        assert state["criterion"]["_extra_state"].pop("made_by")["method"] == "online_kd"
    torch.testing.assert_close(ours["criterion"], theirs["criterion"], rtol=0, atol=0)


def test_several_language_pairs_are_refused_before_the_training():
    task = object.__new__(MultilingualTranslationTask)
    with pytest.raises(UserError, match="online_kd cannot train with --task multilingual_translation"):
        OnlineKD.open_teacher(None, task)
