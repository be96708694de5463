import argparse
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.data import data_utils
from fairseq.file_io import PathManager

from nmt_kd import compat
from nmt_kd.errors import UserError


class RunsACommand:
    """Unpickling this makes the file named in it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class CallsABuiltin:
    def __reduce__(self):
        return getattr, (dict, "fromkeys")


def write_checkpoint(path, **parts):
    state = {"model": {}, "args": argparse.Namespace(arch="transformer"), "optimizer_history": [{}], **parts}
    torch.save(state, path)
    return path


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_reads_every_kind_of_value_that_fairseq_stores(tmp_path):
    path = write_checkpoint(
        tmp_path / "a.pt",
        model={"weight": torch.ones(2, dtype=torch.float16)},
        extra_state={"array": numpy.arange(3), "scalar": numpy.float64(2.5), "integer": numpy.int64(3)},
    )
    state = compat.read_checkpoint_file(path)
    assert state["extra_state"]["array"].tolist() == [0, 1, 2]
    assert (state["extra_state"]["scalar"], state["extra_state"]["integer"]) == (2.5, 3)
    assert state["args"].arch == "transformer"


def test_reads_checkpoints_written_before_torch_used_zip_files(tmp_path):
    state = {"model": {"weight": torch.ones(2)}, "args": argparse.Namespace(arch="transformer")}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert compat.read_checkpoint_file(tmp_path / "old.pt")["model"]["weight"].tolist() == [1, 1]


@pytest.mark.parametrize("write", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state, protocol=2))])
def test_a_program_in_a_checkpoint_is_refused_by_name_and_does_not_run(tmp_path, write):
    write({"model": {}, "args": RunsACommand(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil\.pt holds posix\.system, which could run code.*refused") as error:
        compat.read_checkpoint_file(tmp_path / "evil.pt")
    one_line(error)
    assert not (tmp_path / "ran").exists()


def test_a_builtin_function_in_a_checkpoint_is_refused(tmp_path):
    path = write_checkpoint(tmp_path / "evil.pt", extra_state=CallsABuiltin())
    with pytest.raises(UserError, match=r"holds (builtins\.)?getattr"):
        compat.read_checkpoint_file(path)


def test_a_pickle_of_a_later_protocol_is_refused(tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": RunsACommand(tmp_path / "ran")}, protocol=4))
    with pytest.raises(UserError):
        compat.read_checkpoint_file(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_missing_empty_truncated_and_foreign_files_are_told_apart(tmp_path):
    whole = write_checkpoint(tmp_path / "whole.pt", model={"weight": torch.ones(1000)}).read_bytes()
    (tmp_path / "empty.pt").touch()
    (tmp_path / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    for name, message in {
        "missing.pt": "does not exist",
        "empty.pt": "is empty",
        "truncated.pt": "truncated or not a torch file",
        "text.pt": "truncated or not a torch file",
        "list.pt": "not a fairseq checkpoint",
        "other.pt": "not a fairseq checkpoint",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            compat.read_checkpoint_file(tmp_path / name)
        assert name in one_line(error)


def test_fairseq_itself_reads_checkpoints_this_way(tmp_path):
    torch.save({"model": {}, "args": RunsACommand(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(UserError):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "evil.pt"))


@pytest.mark.parametrize(
    "text", ["[(512, 3)] * 4 + [(1024, 1)]", "(0.9, 0.98)", "-1", "{'a': [1, None]}", "'text'", "not True", " 2 / 4"]
)
def test_literals_and_their_arithmetic_evaluate_as_in_python(text):
    assert compat.evaluate_literal(text) == eval(text)


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os').system('true')", "open('x')", "x", "[].__class__", "[x for x in (1,)]", "lambda: 1"),
        *("f'{1}'", "[0] * 10**9", "2 ** 9 ** 9", "1 / 0", "(", "[1] * 9999999999", "{**{}}"),
    ],
)
def test_anything_else_in_a_setting_is_refused(text):
    with pytest.raises(UserError, match="not a plain literal") as error:
        compat.evaluate_literal(text)
    one_line(error)


def test_every_module_of_fairseq_that_evaluates_settings_is_guarded():
    from fairseq import utils
    from fairseq.models import fconv
    from fairseq.optim import adam

    for module in (utils, fconv, adam):
        with pytest.raises(UserError):
            module.eval("__import__('os')")
    assert utils.eval_str_list("[1, 2.5]", type=float) == [1.0, 2.5]
    evaluating = re.compile(r"(?<![.\w])eval\(")
    unguarded = [
        name
        for name, module in sys.modules.items()
        if name.startswith("fairseq.") and (getattr(module, "__file__", None) or "").endswith(".py")
        if evaluating.search(Path(module.__file__).read_text(encoding="utf-8")) and "eval" not in vars(module)
    ]
    assert unguarded == []


@pytest.mark.parametrize("sentences", [0, 1, 7, 8, 13, 500])
@pytest.mark.parametrize("multiple", [1, 8])
def test_batches_hold_every_sentence_once_and_in_order(sentences, multiple):
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


def test_a_copy_that_is_killed_in_the_middle_leaves_the_earlier_checkpoint_whole(tmp_path, monkeypatch):
    last, new = tmp_path / "checkpoint_last.pt", tmp_path / "checkpoint_1_500.pt"
    last.write_bytes(b"the checkpoint before")
    new.write_bytes(b"a newer checkpoint")

    def killed(source, destination):
        Path(destination).write_bytes(Path(source).read_bytes()[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", killed)
        with pytest.raises(KeyboardInterrupt):
            PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == b"the checkpoint before"
    assert PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == b"a newer checkpoint"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_1_500.pt", "checkpoint_last.pt"]
