"""Predictions of the nearest neighbours in a datastore, from the command to the student."""

import pytest
from conftest import train_here

from nmt_kd.cli import main


@pytest.fixture(scope="module")
def datastore(data, teacher_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("datastore") / "out"
    main(["datastore", str(data), str(out), "--teacher-path", str(teacher_path)])
    return out


def test_a_student_is_trained_from_neighbours(data, teacher_path, datastore, tmp_path):
    command = ["cache", str(data), str(tmp_path / "cache"), "--source", "knn", "--teacher-path", str(teacher_path)]
    main([*command, "--knn-datastore", str(datastore), "--knn-k", "8"])
    run = train_here(
        data,
        tmp_path / "student",
        *("--criterion", "word_kd", "--teacher-cache", tmp_path / "cache", "--label-smoothing", "0.1"),
        *("--max-update", "12", "--dropout", "0"),
    )
    losses = run.values("train_inner", "kd_loss")
    assert losses[-1] < losses[0]
