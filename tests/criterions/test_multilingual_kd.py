"""Multilingual KD: its loss against a slow form, and two language pairs in fairseq's task for them."""

import pytest
from conftest import TINY_TRANSFORMER, train_here

MULTILINGUAL = [
    *("--task", "multilingual_translation", "--lang-pairs", "en-de,de-en", "--share-encoders", "--share-decoders"),
    *("--label-smoothing", "0.1", "--criterion", "multilingual_kd", "--encoder-langtok", "tgt"),
]
STUDENT = ["--arch", "multilingual_transformer", *TINY_TRANSFORMER[2:]]


@pytest.fixture(scope="module")
def both_directions(corpus, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("both-directions")
    for file in data.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


@pytest.fixture(scope="module")
def back_teacher(both_directions, tmp_path_factory):
    """A teacher of the other direction."""
    flags = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1", "--max-update", "40"]
    folder = tmp_path_factory.mktemp("back-teacher")
    train_here(both_directions, folder, *flags, "--source-lang", "de", "--target-lang", "en")
    return folder / "checkpoint_last.pt"


def test_it_trains(both_directions, teacher_path, back_teacher, tmp_path):
    run = train_here(
        both_directions,
        tmp_path,
        *MULTILINGUAL,
        "--teacher-path",
        f"en-de={teacher_path},de-en={back_teacher}",
        "--max-update",
        "6",
        "--save-interval-updates",
        "3",
        architecture=STUDENT,
    )
    print(run.statistics["valid"][-1], run.statistics["train_inner"][-1])
    assert run.statistics["valid"][-1] == 1
