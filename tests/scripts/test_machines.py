"""The scripts on machines with other numbers of GPUs, other file systems, or without a working Python."""

import sys

import pytest
import runs


@pytest.fixture
def place(tmp_path):
    return runs.workplace(tmp_path)


def replace_python(place: runs.Workplace, pattern: str, instead: str) -> None:
    """Make Python run shell code for the arguments that match a pattern."""
    place.add("python", f'case "$*" in {pattern}) {instead} ;; *) exec {sys.executable} "$@" ;; esac')


@pytest.mark.parametrize(
    ("data", "gpus", "workers"),
    [
        ("wmt14_en_de", 8, 8),
        ("wmt14_en_de", 6, 4),  # 32,768 tokens cannot be divided by 6 or 5
        ("multi30k", 8, 2),  # which leaves 1,000 of 2,000 tokens each
        ("multi30k", 3, 2),
        ("iwslt14_de_en", 8, 4),
        ("iwslt14_de_en", 1, 1),
    ],
)
def test_no_more_gpus_are_used_than_can_share_an_update(place, data, gpus, workers):
    replace_python(place, "*device_count*", f"echo {gpus}")
    printed = place.done("train", data, "plain", "--dry-run", NMT_KD_DEVICE="")
    assert f"--distributed-world-size {workers} " in printed
    assert (f"--nproc-per-node {workers} " in printed) == (workers > 1)
    assert (f"using {workers} of {gpus} GPUs, the most that can share an update of " in printed) == (workers < gpus)


def test_one_worker_uses_one_of_several_gpus(place):
    replace_python(place, "*device_count*", "echo 8")
    printed = place.done("train", "wmt14_en_de", "plain", "--dry-run", NMT_KD_DEVICE="", NPROC="1")
    assert "--update-freq 8 " in printed
    assert "--distributed-world-size 1 " in printed  # fairseq's default is the number of GPUs


def test_a_python_without_torch_is_not_taken_for_a_machine_without_gpus(place):
    replace_python(place, "*device_count*", "exit 1")
    line = place.refused("train", "multi30k", "plain", NMT_KD_DEVICE="")
    assert "cannot count the GPUs, because Python cannot import torch" in line
    assert line.endswith("run: bash scripts/setup.sh")


@pytest.mark.parametrize("command", [("prepare", "multi30k"), ("train", "multi30k", "plain")])
def test_a_file_system_without_locks_is_only_a_warning(place, command):
    place.add("flock", "exit 69")
    result = place.script(*command)
    assert result.returncode == 0
    assert "this file system cannot lock " in result.stderr


@pytest.mark.parametrize("restart", [[], ["--restart"]])
def test_nothing_is_removed_if_python_cannot_compare_the_text(place, restart):
    replace_python(place, "*inputs.py*", "exit 127")
    line = place.refused("prepare", "multi30k", *restart)
    assert "cannot compare " in line
    assert (place.work / "teacher/checkpoint_best.pt").is_file()


@pytest.mark.parametrize(("data", "packages"), [("multi30k", "train"), ("iwslt14_de_en", "dev")])
def test_quickstart_sets_up_what_the_data_set_needs(place, data, packages):
    assert f"scripts/setup.sh {packages}\n" in place.done("quickstart", "--data", data, "--dry-run")
