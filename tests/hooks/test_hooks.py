"""What is special to each of the methods beside this file; the contract tests what they share with all others."""

import pytest
import torch
from conftest import method_flags, train_here
from criterions.test_contract import loss_and_gradients
from torch.nn import functional

from nmt_kd.engine.predictions import TopWords, UndeclaredNeedError
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError

FEW = ["--max-update", "3", "--dropout", "0.1", "--disable-validation"]


def test_two_dropout_passes_equal_the_plain_form_in_loss_and_gradients(build, sample):
    criterion, student = build("r_drop", "--r-drop-alpha", 2, "--dropout", "0.3")
    torch.manual_seed(1)
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    student.zero_grad()
    torch.manual_seed(1)
    kept = sample["target"].ne(criterion.padding_idx)
    first, second = (student(**sample["net_input"])[0].log_softmax(-1)[kept] for _ in range(2))
    divergences = [
        functional.kl_div(p, q, log_target=True, reduction="sum") for p, q in ((first, second), (second, first))
    ]
    share = 0.1 / (first.size(-1) - 1)
    expected = 2 * sum(divergences) / 2
    for log_p in (first, second):
        nll = -log_p.gather(-1, sample["target"][kept].unsqueeze(-1)).sum()
        expected = expected + (0.9 - share) * nll - share * log_p.sum()
    expected.backward()
    assert divergences[0] > 0.1
    torch.testing.assert_close(loss, expected)
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_targets_are_the_students_own_samples(build, task, sample):
    criterion, student = build("on_policy")
    with torch.no_grad():
        student.decoder.output_projection.weight *= 0  # all words are equally probable
    prepared = criterion.prepare(student, sample)
    target, inputs = prepared["target"], prepared["net_input"]["prev_output_tokens"]
    kept = target.ne(criterion.padding_idx)
    assert student.training
    assert prepared["ntokens"] == kept.sum()
    assert (kept.sum(1) <= sample["target"].ne(criterion.padding_idx).sum(1)).all()
    assert torch.equal(inputs.ne(criterion.padding_idx), kept)
    assert torch.equal(inputs[:, 1:][kept[:, 1:]], target[:, :-1][kept[:, 1:]])
    many = [
        word
        for update in range(40)
        for word in (setattr(criterion.progress, "updates", update) or criterion.prepare(student, sample))["target"][
            :, 0
        ].tolist()
    ]
    assert len(set(many)) > len(task.target_dictionary) / 2  # and not always the first choice


def test_a_batch_that_was_changed_needs_predictions_at_new_prefixes(build, sample, monkeypatch):
    criterion, student = build("on_policy")
    monkeypatch.setattr(type(criterion), "needs", TopWords(1))
    with pytest.raises(UndeclaredNeedError, match="at_new_prefixes=True"):
        criterion(student, sample)


def test_a_decoder_of_the_training_alone_is_saved_beside_a_stock_model(data, teacher_path, tmp_path):
    ours, stock = (
        train_here(data, tmp_path / method, *method_flags(method, teacher_path), *FEW).checkpoint()
        for method in ("second_decoder", "label_smoothed_cross_entropy")
    )
    assert ours["model"].keys() == stock["model"].keys()
    assert any(name.startswith("second.layers.0.") for name in ours["criterion"])


def test_the_second_decoder_learns_from_the_references_alone(build, sample):
    gradients = []
    for alpha in (0.1, 0.9):
        criterion, student = build("second_decoder", "--kd-alpha", alpha)
        loss_and_gradients(criterion, student, sample)
        gradients.append(
            {name: value.grad.clone() for name, value in criterion.named_parameters() if value.grad is not None}
        )
    assert len(gradients[0]) > 10
    torch.testing.assert_close(*gradients)


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
