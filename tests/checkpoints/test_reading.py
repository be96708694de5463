import argparse
import os
import pickle
from pathlib import Path

import numpy
import pytest
import torch
from fairseq import checkpoint_utils

from nmt_kd import cli
from nmt_kd.checkpoints.reading import read_checkpoint_file, read_model
from nmt_kd.errors import UserError


class RunsACommand:
    """Unpickling this creates the file at `path`."""

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
    state = read_checkpoint_file(path)
    assert state["extra_state"]["array"].tolist() == [0, 1, 2]
    assert (state["extra_state"]["scalar"], state["extra_state"]["integer"]) == (2.5, 3)
    assert state["args"].arch == "transformer"


def test_reads_checkpoints_written_before_torch_used_zip_files(tmp_path):
    state = {"model": {"weight": torch.ones(2)}, "args": argparse.Namespace(arch="transformer")}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for mapped in (False, True):
        assert read_checkpoint_file(tmp_path / "old.pt", mapped)["model"]["weight"].tolist() == [1, 1]


def test_a_model_is_mapped_without_the_state_of_the_optimiser(tmp_path):
    state = {"model": {"weight": torch.ones(2)}, "args": argparse.Namespace(arch="transformer", task="translation")}
    torch.save({**state, "last_optimizer_state": {"m": torch.ones(9)}}, path := tmp_path / "a.pt")
    state = read_model(path)
    assert state["model"]["weight"].tolist() == [1, 1]
    assert "last_optimizer_state" not in state
    assert str(path) in Path("/proc/self/maps").read_text()


def test_no_command_reads_the_state_of_the_optimiser(corpus, data, seq_kd_teacher, tmp_path, monkeypatch):
    """Commands that decode or export map a checkpoint, of which only what they use is then read."""
    read = []
    load = torch.load

    def observed(file, *args, mmap=False, **kwargs):
        read.append(mmap)
        return load(file, *args, mmap=mmap, **kwargs)

    monkeypatch.setattr(torch, "load", observed)
    subword_model = ["--data", data, "--subword-model", corpus / "pieces/subwords.model"]
    decode = ["decode", "--teacher", f"{seq_kd_teacher}:{seq_kd_teacher}", "--sources", corpus / "text/test.en"]
    export = ["export", seq_kd_teacher, "--teacher", seq_kd_teacher, "--compute-types", "float32", "--sentences", "4"]
    for command in (decode, export):
        cli.main([str(word) for word in (*command, *subword_model, "--output", tmp_path / command[0])])
    assert len(read) > 6
    assert all(read)
    assert torch.load is observed


@pytest.mark.parametrize("write", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state, protocol=2))])
def test_code_in_a_checkpoint_is_refused_by_name_and_does_not_run(tmp_path, write):
    write({"model": {}, "args": RunsACommand(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(
        UserError, match=r"^refused to load checkpoint .*evil\.pt: it contains posix\.system, which could run code"
    ) as error:
        read_checkpoint_file(tmp_path / "evil.pt")
    one_line(error)
    assert not (tmp_path / "ran").exists()


def test_a_builtin_function_in_a_checkpoint_is_refused(tmp_path):
    path = write_checkpoint(tmp_path / "evil.pt", extra_state=CallsABuiltin())
    with pytest.raises(UserError, match=r"it contains (builtins\.)?getattr"):
        read_checkpoint_file(path)


def test_a_pickle_of_a_later_protocol_is_refused(tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": RunsACommand(tmp_path / "ran")}, protocol=4))
    with pytest.raises(UserError):
        read_checkpoint_file(tmp_path / "evil.pt")
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
            read_checkpoint_file(tmp_path / name)
        assert name in one_line(error)


def test_a_file_that_the_system_refuses_to_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "other_owner.pt")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(UserError, match=r"^cannot read checkpoint .*/other_owner.pt: Permission denied$"):
        read_checkpoint_file(path)


def test_a_folder_names_its_checkpoints_the_newest_first(tmp_path):
    for age, name in enumerate(["checkpoint_last.pt", "checkpoint_best.pt", "checkpoint1.pt"]):
        os.utime(write_checkpoint(tmp_path / name), (age, 1e9 - age))
    with pytest.raises(UserError) as error:
        read_checkpoint_file(tmp_path)
    names = "checkpoint_last.pt, checkpoint_best.pt, checkpoint1.pt"
    assert one_line(error) == f"checkpoint {tmp_path} is a folder; give a checkpoint in it: {names}"
    for number in range(2, 9):
        write_checkpoint(tmp_path / f"checkpoint{number}.pt")
    with pytest.raises(UserError, match=r"give a checkpoint in it: (checkpoint\d\.pt, ){6}\.\.\.$"):
        read_checkpoint_file(tmp_path)


def test_a_folder_without_checkpoints_is_told_apart(tmp_path):
    with pytest.raises(UserError, match=r"is a folder without checkpoints; give the path of a file written by fairseq"):
        read_checkpoint_file(tmp_path)
    (tmp_path / "dict.en.txt").touch()
    with pytest.raises(UserError, match=r"is a folder of binarised data; give the path of a file written by fairseq"):
        read_checkpoint_file(tmp_path)


def test_fairseq_itself_refuses_code_in_checkpoints(tmp_path):
    torch.save({"model": {}, "args": RunsACommand(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(UserError):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "evil.pt"))
