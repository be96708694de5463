"""The state that a criterion saves with the model: whose it is, and when it is not used."""

import pytest
import torch
from conftest import EVERY_METHOD, method_flags, train_here
from fairseq.criterions import CRITERION_REGISTRY
from test_training import WITHOUT_VALIDATION, assert_same_parameters
from torch import nn

from nmt_kd.checkpoints.reading import read_checkpoint, read_checkpoint_file
from nmt_kd.errors import UserError

STATEFUL = [
    method for method in EVERY_METHOD if CRITERION_REGISTRY[method].get_extra_state is not nn.Module.get_extra_state
]
ANEW = ["--reset-optimizer", "--reset-dataloader", "--reset-meters", "--reset-lr-scheduler"]


@pytest.mark.parametrize("method", STATEFUL)
@pytest.mark.parametrize("other", [*STATEFUL, "ckd"])
def test_the_state_of_another_method_is_not_loaded(build, method, other, caplog):
    if method == other:
        return
    criterion, _ = build(method)
    before = criterion.get_extra_state()
    criterion.load_state_dict(build(other)[0].state_dict())
    assert str(criterion.get_extra_state()) == str(before)
    assert f"the checkpoint has no state for {method}; starting with a fresh one" in caplog.text


@pytest.mark.parametrize("method", [*STATEFUL, "ckd", "seer_forcing"])
def test_a_training_that_begins_anew_from_a_checkpoint_begins_with_a_fresh_state(method, data, teacher_path, tmp_path):
    flags = method_flags(method, teacher_path, *WITHOUT_VALIDATION.get(method, ["--validate-interval-updates", "2"]))
    earlier = train_here(data, tmp_path / "earlier", *flags, "--max-update", "6")
    without = earlier.checkpoint()
    assert without["criterion"] is not None
    torch.save({**without, "criterion": None}, tmp_path / "without.pt")
    with_state, without_state = (
        train_here(data, tmp_path / name, *flags, "--max-update", "4", "--restore-file", file, *ANEW)
        for name, file in (("a", earlier.save_dir / "checkpoint_last.pt"), ("b", tmp_path / "without.pt"))
    )
    assert with_state.values("train_inner", "loss") == without_state.values("train_inner", "loss")
    assert_same_parameters(with_state, without_state)
    parameters, states = [], []
    for run in (with_state, without_state):
        parameters.append(run.checkpoint()["criterion"])
        state = parameters[-1].pop("_extra_state", {})
        states.append({name: value for name, value in state.items() if value is not None and name != "made_by"})
    torch.testing.assert_close(*parameters, rtol=0, atol=0)
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_a_checkpoint_without_the_state_of_a_criterion_or_optimiser_has_no_state_to_resume(teacher_path, tmp_path):
    file = tmp_path / "checkpoint.pt"
    state = {**read_checkpoint_file(teacher_path), "criterion": {"parameter": torch.ones(1)}}
    torch.save(state, file)
    assert read_checkpoint(file)["criterion"] is not None
    torch.save({**state, "last_optimizer_state": None}, file)
    assert read_checkpoint(file)["criterion"] is None
    del state["criterion"]  # fairseq before 0.12 wrote none if the criterion had no parameters
    torch.save(state, file)
    assert read_checkpoint(file)["criterion"] is None


def test_parameters_of_other_options_are_refused_in_one_line(build):
    earlier, _ = build("ckd")
    later, _ = build("ckd", "--ckd-fusion", "teacher-down")
    with pytest.raises(
        UserError, match="the checkpoint's parameters of ckd do not fit, because it was trained with other options"
    ):
        later.load_state_dict(earlier.state_dict())


def test_the_state_is_updated_once_if_a_batch_is_repeated(build, task, sample):
    criterion, student = build("selective_kd")

    class Optimizer:
        backward = staticmethod(torch.Tensor.backward)

    for update, (repeats, pushed) in enumerate([(False, 1), (True, 1), (True, 1), (False, 2)]):
        task.repeats_batches = repeats
        task.train_step(sample, student, criterion, Optimizer(), update)
        assert len(criterion.queue.values) == pushed * sample["ntokens"]
    task.repeats_batches = False
