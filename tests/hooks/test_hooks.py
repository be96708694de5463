"""Hooks of methods; what is special to a method of the package is tested in tests/criterions."""

import pytest
import torch
from conftest import train_here

from nmt_kd.engine.predictions import TopWords, UndeclaredNeedError
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError

FEW = ["--max-update", "3", "--dropout", "0.1", "--disable-validation"]


def test_a_batch_that_was_changed_needs_predictions_at_new_prefixes(build, sample, monkeypatch):
    criterion, student = build("gkd", "--gkd-lambda", 1)
    monkeypatch.setattr(type(criterion), "needs", TopWords(1))
    with pytest.raises(UndeclaredNeedError, match="at_new_prefixes=True"):
        criterion(student, sample)


def test_each_sentence_learns_from_the_teacher_of_its_language(build, data, task, sample, teacher_path, tmp_path):
    other = train_here(data, tmp_path / "other", "--criterion", "cross_entropy", *FEW).save_dir / "checkpoint_last.pt"
    tag = task.source_dictionary[next(word for word in sample["net_input"]["src_tokens"][0].tolist() if word != 1)]
    criterion, student = build("language_teachers", "--kd-alpha", 1, "--language-teachers", f"{tag}={other}")
    dataset, expected, tagged = task.dataset("test"), 0.0, 0
    for number in sample["id"].tolist():
        alone = dataset.collater([dataset[number]])
        has_tag = task.source_dictionary[alone["net_input"]["src_tokens"][0, 0]] == tag
        tagged += has_tag
        word_kd, _ = build("word_kd", "--kd-alpha", 1, "--teacher-path", other if has_tag else teacher_path)
        expected = expected + word_kd(student, alone)[0]
    assert 0 < tagged < len(sample["id"])
    torch.testing.assert_close(criterion(student, sample)[0], expected)


def test_a_teacher_runs_only_where_its_language_occurs(build, data, task, sample, teacher_path, monkeypatch):
    criterion, student = build("language_teachers", "--language-teachers", f"<unk>={teacher_path}")
    read = []
    original = Teacher.read
    monkeypatch.setattr(Teacher, "read", lambda teacher, *args: read.append(teacher) or original(teacher, *args))
    criterion(student, sample)
    assert read == [criterion.teacher.default]


def test_a_teacher_that_was_not_trained_may_predict_no_better_than_chance(build, sample):
    criterion, student = build("language_teachers")
    for parameter in criterion.teacher.models[0].parameters():
        parameter.data.normal_(std=3)
    criterion.teacher.is_trained = False
    criterion(student, sample)
    assert criterion.chance_check.tokens == 0
    criterion.teacher.is_trained = True
    criterion.chance_check.TOKENS = 1
    with pytest.raises(UserError, match="no better than chance"):
        criterion(student, sample)
