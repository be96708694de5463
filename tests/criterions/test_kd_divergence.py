"""`--kd-divergence` in the methods that have it: the loss is the named divergence's, and KL is what it was."""

import pytest
import torch
from criterions.test_contract import Store, loss_and_gradients

from nmt_kd.errors import UserError
from nmt_kd.losses.divergence_kinds import DIVERGENCES, divergence_named

METHODS = ("word_kd", "tie_kd", "selective_kd")
FLAGS = {"word_kd": [], "tie_kd": ["--kd-iterations", "1", "--ranking-top-k", "0"], "selective_kd": []}


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_word_kd_equals_the_textbook_form_in_loss_and_gradients(build, sample, name):
    flags = ["--kd-alpha", 1, "--kd-divergence", name, "--kd-skew", 0.3, "--kd-temperature", 1.5]
    criterion, student = build("word_kd", *flags, "--kd-chunk-tokens", 7)
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    student.zero_grad()
    kept = sample["target"].ne(criterion.padding_idx)
    with torch.no_grad():
        teacher = criterion.teacher.models[0](**sample["net_input"])[0][kept]
    log_p, log_q = ((z / 1.5).log_softmax(-1) for z in (student(**sample["net_input"])[0][kept], teacher))
    expected = 1.5**2 * divergence_named(name, 0.3)(log_p, log_q).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for parameter, value in student.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(gradient[parameter], value.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_kl_is_the_default_and_the_others_differ_from_it(build, sample, method):
    losses = {}
    for name in (None, *DIVERGENCES):
        criterion, student = build(method, *FLAGS[method], *(["--kd-divergence", name] if name else []))
        loss, gradient, _ = loss_and_gradients(criterion, student, sample)
        assert all(values.isfinite().all() for values in gradient.values())
        losses[name] = loss.item()
    assert losses.pop(None) == losses["kl"]
    assert len({round(loss, 4) for loss in losses.values()}) == len(DIVERGENCES)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_each_works_from_a_store(build, task, sample, method, name):
    flags = [*FLAGS[method], "--kd-divergence", name]
    criterion, student = build(method, *flags)
    live = loss_and_gradients(criterion, student, sample)
    teacher = criterion.teacher
    for words in (3, len(task.target_dictionary)):
        criterion, student = build(method, *flags)
        object.__setattr__(criterion, "teacher", Store(teacher, words))
        loss, gradient, _ = loss_and_gradients(criterion, student, sample)
        assert all(values.isfinite().all() for values in gradient.values())
    torch.testing.assert_close(loss, live[0])
    torch.testing.assert_close(gradient, live[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kd-divergence", "hellinger"], "--kd-divergence is hellinger; it must be kl, reverse-kl, js, tvd, "),
        (["--kd-skew", "1"], "--kd-skew is 1.0; it must be from 0 to below 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(build, flags, message):
    with pytest.raises(UserError) as error:
        build("word_kd", *flags)
    assert str(error.value).startswith(message)
