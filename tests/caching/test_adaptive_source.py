"""`nmt-kd cache --source adaptive`: what it stores and logs, with any number of workers, and what it refuses."""

import pytest
import torch
from caching.test_caching import contents

from nmt_kd.caching.store import read_store
from nmt_kd.cli import main
from nmt_kd.engine.adaptive import AdaptiveTeacher
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError


@pytest.fixture
def cache(data, teacher_path, seq_kd_teacher):
    def cache(out, *flags, teachers=f"{teacher_path}:{seq_kd_teacher}"):
        main(["cache", str(data), str(out), "--source", "adaptive", "--teacher-path", teachers, *flags])
        return out

    return cache


def test_the_store_has_the_mixture_and_the_log_the_mean_weights(
    cache, task, teacher_path, seq_kd_teacher, tmp_path, capsys
):
    out = cache(tmp_path / "out", "--gen-subset", "test", "valid", "--adaptive-temperature", "0.5")
    task.load_dataset("test")
    dataset = task.dataset("test")
    teacher = AdaptiveTeacher(Teacher.load(f"{teacher_path}:{seq_kd_teacher}", task).models, "both", 0.5)
    for number, (words, log_q, _) in enumerate(read_store(out, task, "test")):
        sample = dataset.collater([dataset[number]])
        token_index = target_token_index(sample["target"], task.target_dictionary.pad())
        expected = teacher.read(sample, token_index, torch.zeros(())).predict(slice(None)).log_q
        torch.testing.assert_close(log_q, expected.topk(8).values, rtol=2e-3, atol=1e-4)
        torch.testing.assert_close(log_q, expected.gather(-1, words), rtol=2e-3, atol=1e-4)
    messages = capsys.readouterr().err.splitlines()
    assert f"test: {teacher.summary()}" in messages
    (valid,) = (line for line in messages if line.startswith("valid: mean weights"))
    assert "over 20 sentences" in valid


def test_any_number_of_workers_gives_the_same_bytes(cache, tmp_path):
    alone = contents(cache(tmp_path / "alone", "--gen-subset", "valid"))
    for worker in ("1", "0"):
        cache(tmp_path / "both", "--gen-subset", "valid", "--num-shards", "2", "--shard-id", worker)
    assert contents(tmp_path / "both") == alone


def test_another_temperature_does_not_resume(cache, tmp_path):
    cache(tmp_path, "--gen-subset", "valid")
    with pytest.raises(UserError, match="weighted by sentence at temperature 2"):
        cache(tmp_path, "--gen-subset", "valid", "--adaptive-temperature", "2")


def test_wrong_input_is_one_line(cache, tmp_path, teacher_path):
    with pytest.raises(UserError) as error:
        cache(tmp_path, teachers=str(teacher_path))
    assert str(error.value) == (
        f"--source adaptive weighs several teachers, but --teacher-path names one, {teacher_path}; separate them by "
        "':', or use --source checkpoint"
    )
    with pytest.raises(UserError) as error:
        cache(tmp_path, "--adaptive-temperature", "0")
    assert str(error.value) == "--adaptive-temperature is 0.0; it must be above 0"
