import errno
import os

import pytest
import torch
from conftest import train_here

from nmt_kd.checkpoints import averaging
from nmt_kd.checkpoints.reading import read_checkpoint_file
from nmt_kd.cli import main
from nmt_kd.errors import UserError


def write(folder, name, **parameters):
    torch.save({"model": parameters, "cfg": {"model": name}}, folder / name)
    return folder / name


def test_the_mean_of_every_parameter_in_its_own_precision(tmp_path):
    names = ["checkpoint1.pt", "checkpoint2.pt", "checkpoint3.pt"]
    values = [1.0, 2.0, 6.0]
    paths = [
        write(tmp_path, name, half=torch.full((2,), value, dtype=torch.float16), count=torch.tensor(int(value)))
        for name, value in zip(names, values, strict=True)
    ]
    average = averaging.average_checkpoints(paths)
    assert average["model"]["half"].tolist() == [3.0, 3.0]
    assert average["model"]["half"].dtype == torch.float16
    assert average["model"]["count"] == 3
    assert average["cfg"] == {"model": names[0]}


def test_many_half_precision_parameters_do_not_overflow_or_drift(tmp_path):
    paths = [write(tmp_path, f"checkpoint{i}.pt", x=torch.tensor([60000.0], dtype=torch.float16)) for i in range(5)]
    assert averaging.average_checkpoints(paths)["model"]["x"].tolist() == [60000.0]


def test_the_last_checkpoints_are_found_by_number_not_by_name(tmp_path):
    for name in (
        "checkpoint9.pt",
        "checkpoint10.pt",
        "checkpoint_1_900.pt",
        "checkpoint_2_1000.pt",
        "checkpoint_best.pt",
    ):
        (tmp_path / name).touch()
    by_epoch = averaging.last_checkpoints(tmp_path, 2, averaging.BY_EPOCH)
    by_update = averaging.last_checkpoints(tmp_path, 1, averaging.BY_UPDATE)
    assert [path.name for path in by_epoch] == ["checkpoint10.pt", "checkpoint9.pt"]
    assert [path.name for path in by_update] == ["checkpoint_2_1000.pt"]


def test_too_few_checkpoints_and_different_models_are_errors(tmp_path):
    first = write(tmp_path, "checkpoint1.pt", x=torch.ones(2))
    other = write(tmp_path, "checkpoint2.pt", x=torch.ones(3))
    with pytest.raises(
        UserError, match=r"has 2 checkpoints by epoch, but 5 are to be averaged; average fewer, or train with"
    ):
        averaging.last_checkpoints(tmp_path, 5, averaging.BY_EPOCH)
    with pytest.raises(UserError, match="have different parameters"):
        averaging.average_checkpoints([first, other])


def test_a_folder_needs_to_say_which_of_its_checkpoints(tmp_path):
    with pytest.raises(UserError, match="--inputs is a folder; say which of its checkpoints with --last-epochs or"):
        main(["average", "--inputs", str(tmp_path), "--output", str(tmp_path / "average.pt")])


def test_a_full_disk_leaves_the_earlier_average(tmp_path, monkeypatch):
    paths = [write(tmp_path, "checkpoint1.pt", x=torch.ones(2))]
    output = tmp_path / "average.pt"
    output.write_bytes(b"earlier")

    def full(state, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"^cannot write .*/average.pt: No space left on device; free some"):
        averaging.write_average(paths, output)
    assert output.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["average.pt", "checkpoint1.pt"]


def test_the_command_averages_a_training_and_the_result_trains_on(data, tmp_path, capsys):
    flags = ["--criterion", "cross_entropy", "--disable-validation", "--save-interval-updates", "2"]
    run = train_here(data, tmp_path / "run", *flags, "--max-update", "6")
    output = tmp_path / "average.pt"
    assert main(["average", "--inputs", str(run.save_dir), "--last-updates", "3", "--output", str(output)]) == 0
    assert "average of 3 checkpoints" in capsys.readouterr().out
    parts = [read_checkpoint_file(path)["model"] for path in run.save_dir.glob("checkpoint_1_*.pt")]
    assert len(parts) == 3
    for name, mean in read_checkpoint_file(output)["model"].items():
        torch.testing.assert_close(mean, sum(part[name].double() for part in parts).div(3).to(mean.dtype))
    resumed = train_here(data, tmp_path / "more", *flags, "--max-update", "8", "--restore-file", output)
    assert resumed.values("train_inner", "num_updates")[-1] == 8


@pytest.mark.parametrize("flag", ["--last-epochs", "--last-updates"])
@pytest.mark.parametrize("count", ["0", "-1"])
def test_no_checkpoints_are_an_error(tmp_path, flag, count):
    with pytest.raises(UserError, match=f"^{flag} is {count}; it must be 1 or more$"):
        main(["average", "--inputs", str(tmp_path), flag, count, "--output", str(tmp_path / "x.pt")])


def test_a_number_of_checkpoints_takes_a_folder(tmp_path):
    with pytest.raises(UserError, match="take one folder"):
        main(["average", "--inputs", "a.pt", "b.pt", "--last-epochs", "2", "--output", str(tmp_path / "x.pt")])
