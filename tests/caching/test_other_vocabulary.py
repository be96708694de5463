"""Teachers with other subwords and other dictionaries than the student's."""

import pytest
import sentencepiece
import torch
from conftest import binarise, train_here

from nmt_kd.caching.building import build_cache
from nmt_kd.caching.sources import checkpoint, other_vocabulary
from nmt_kd.caching.store import read_store, task_of_data
from nmt_kd.cli import main


@pytest.fixture(scope="session")
def foreign(corpus, tmp_path_factory):
    """A folder with another subword model of the same text, its data and a teacher trained on it."""
    folder = tmp_path_factory.mktemp("foreign")
    texts = sorted((corpus / "text").glob("train.*"))
    sentencepiece.SentencePieceTrainer.train(
        input=[str(path) for path in texts],
        model_prefix=str(folder / "other"),
        vocab_size=110,
        model_type="unigram",
        character_coverage=1.0,
        minloglevel=3,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "other.model"))
    (folder / "pieces").mkdir()
    for path in (corpus / "text").iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        split = "".join(" ".join(processor.encode(line, out_type=str)) + "\n" for line in lines)
        (folder / "pieces" / path.name).write_text(split, encoding="utf-8")
    binarise(folder / "pieces", folder / "data-bin", "--joined-dictionary")
    train_here(
        folder / "data-bin",
        folder / "teacher",
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1", "--max-update", "150"),
        *("--lr", "0.01", "--max-tokens", "1500", "--disable-validation"),
    )
    return folder


@pytest.fixture(scope="session")
def flags(corpus, foreign):
    return [
        *("--source", "other-vocabulary", "--teacher-path", str(foreign / "teacher/checkpoint_last.pt")),
        *("--other-vocabulary-data", str(foreign / "data-bin")),
        *("--other-vocabulary-subwords", str(foreign / "other.model")),
        *("--other-vocabulary-student-subwords", str(corpus / "pieces/subwords.model")),
    ]


@pytest.fixture(scope="session")
def built(data, flags, tmp_path_factory):
    out = tmp_path_factory.mktemp("respelled") / "out"
    main(["cache", str(data), *flags, "--top-k", "6", str(out)])
    return out


def test_a_student_is_trained(built, data, tmp_path):
    run = train_here(
        data,
        tmp_path,
        *("--user-dir", "nmt_kd", "--criterion", "word_kd", "--teacher-cache", built, "--max-update", "30"),
    )
    divergence = run.values("train_inner", "kd_loss")
    assert divergence[-1] < 0.8 * divergence[0]


def test_the_same_vocabulary_gives_what_the_checkpoint_gives(corpus, data, teacher_path, tmp_path):
    model = str(corpus / "pieces/subwords.model")
    options = other_vocabulary.Options(str(data), model, "", model)
    found = {}
    for name, (task, source) in {
        "same": checkpoint.open_source(str(data), str(teacher_path), checkpoint.Options()),
        "other": other_vocabulary.open_source(str(data), str(teacher_path), options),
    }.items():
        build_cache(task, source, tmp_path / name, 8, ["valid"])
        found[name] = list(read_store(tmp_path / name, task_of_data(str(data)), "valid"))
    for ours, theirs in zip(found["other"], found["same"], strict=True):
        known = ours[0].ge(0).all(-1)
        assert known.all()
        assert ours[0].equal(theirs[0])
        assert ours[1].equal(theirs[1])
        torch.testing.assert_close(ours[2], theirs[2], rtol=0, atol=1e-4)
