import traceback

import pytest
import torch
from conftest import train_here
from torch.nn import functional

from nmt_kd.errors import UserError
from nmt_kd.losses.logits import Logits

STUDENT = ["--max-update", "4", "--dropout", "0.1", "--label-smoothing", "0.1", "--disable-validation"]


def textbook_form(student, teacher, sample, alpha, temperature, label_smoothing, padding):
    """Word-KD written down with whole tensors, padding and all, as the papers' code does it."""
    target = sample["target"]
    kept = target.ne(padding)
    student_logits = student(**sample["net_input"])[0]
    with torch.no_grad():
        teacher_logits = teacher(**sample["net_input"])[0]
    log_p = functional.log_softmax(student_logits, -1)
    nll = -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)[kept].sum()
    smooth = -log_p.sum(-1)[kept].sum()
    share = label_smoothing / (log_p.size(-1) - 1)
    cross_entropy = (1 - label_smoothing - share) * nll + share * smooth
    divergence = functional.kl_div(
        functional.log_softmax(student_logits / temperature, -1),
        functional.softmax(teacher_logits / temperature, -1),
        reduction="none",
    ).sum(-1)[kept].sum()  # fmt: skip
    return (1 - alpha) * cross_entropy + alpha * temperature**2 * divergence


@pytest.mark.parametrize(("alpha", "temperature"), [(0.5, 1.0), (0.1, 1.0), (1.0, 2.0), (0.0, 1.0)])
def test_equals_the_textbook_form_in_loss_and_gradients(build, sample, task, alpha, temperature):
    criterion, student = build("word_kd", "--kd-alpha", alpha, "--kd-temperature", temperature)
    loss, _, logged = criterion(student, sample)
    loss.backward()
    trained = {name: parameter for name, parameter in student.named_parameters() if parameter.grad is not None}
    ours = {name: parameter.grad.clone() for name, parameter in trained.items()}
    student.zero_grad()
    expected = textbook_form(
        student, criterion.teacher.models[0], sample, alpha, temperature, 0.1, task.target_dictionary.pad()
    )
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logged["loss"], expected.detach())
    for name, parameter in trained.items():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_leaves_prefixes_out_and_reports_accuracy_as_fairseq_does(build, sample):
    criterion, student = build("word_kd", "--ignore-prefix-size", 2, "--report-accuracy")
    _, _, logged = criterion(student, sample)
    assert logged["n_counted"] == sample["ntokens"] - 2 * len(sample["target"])
    assert 0 <= logged["n_correct"] <= logged["n_counted"]


def test_alpha_zero_is_fairseqs_plain_training(data, teacher_path, tmp_path):
    plain = train_here(data, tmp_path / "plain", *STUDENT, "--criterion", "label_smoothed_cross_entropy")
    criterion = ["--criterion", "word_kd", "--kd-alpha", "0", "--teacher-path", teacher_path]
    distilled = train_here(data, tmp_path / "kd", *STUDENT, *criterion)
    for name in ("loss", "nll_loss", "gnorm", "wpb"):
        assert distilled.values("train_inner", name) == plain.values("train_inner", name)
    parameters, plain_parameters = (
        # without the keys' bias: attention does not depend on it, so Adam blows up the rounding of a zero gradient
        {name: value for name, value in run.checkpoint()["model"].items() if not name.endswith("k_proj.bias")}
        for run in (distilled, plain)
    )
    torch.testing.assert_close(parameters, plain_parameters, rtol=1e-4, atol=1e-5)


def test_training_logs_the_terms_in_base_2_and_their_weighted_sum(data, teacher_path, tmp_path):
    criterion = ["--criterion", "word_kd", "--kd-alpha", "0.3", "--teacher-path", teacher_path]
    run = train_here(data, tmp_path, *STUDENT, *criterion)
    for loss, cross_entropy, divergence, nll, perplexity in zip(
        *(run.values("train_inner", name) for name in ("loss", "ce_loss", "kd_loss", "nll_loss", "ppl")), strict=True
    ):
        assert loss == pytest.approx(0.7 * cross_entropy + 0.3 * divergence, abs=2e-3)
        assert perplexity == pytest.approx(2**nll, rel=2e-3)


def test_agreement_can_choose_the_best_checkpoint(data, teacher_path, tmp_path):
    choice = ["--best-checkpoint-metric", "teacher_agreement", "--maximize-best-checkpoint-metric"]
    criterion = [
        "--criterion",
        "word_kd",
        "--teacher-path",
        teacher_path,
        "--max-update",
        "30",
        "--validate-interval-updates",
        "10",
        "--save-interval-updates",
        "10",
    ]
    run = train_here(data, tmp_path, *criterion, *choice)
    agreements = run.values("valid", "valid_teacher_agreement")
    assert len(agreements) >= 3
    assert all(0 <= agreement <= 100 for agreement in agreements)
    assert run.checkpoint("checkpoint_best.pt")["extra_state"]["best"] == max(agreements)
    assert {"valid_kd_loss", "valid_loss", "valid_nll_loss", "valid_ppl"} <= set(run.statistics["valid"][0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kd-alpha", "-0.1"], "--kd-alpha is -0.1; it must be from 0 to 1"),
        (["--kd-alpha", "1.1"], "--kd-alpha is 1.1; it must be from 0 to 1"),
        (["--kd-temperature", "0"], "--kd-temperature is 0.0; it must be above 0"),
        (["--kd-temperature", "-1"], "--kd-temperature is -1.0; it must be above 0"),
        (["--kd-temperature", "nan"], "--kd-temperature is nan; it must be above 0"),
        (["--label-smoothing", "1"], "--label-smoothing is 1.0; it must be from 0 to below 1"),
        (["--kd-chunk-tokens", "-1"], "--kd-chunk-tokens is -1; it must be 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_named(build, flags, message):
    with pytest.raises(UserError) as error:
        build("word_kd", *flags)
    assert str(error.value) == message


def test_from_forward_to_the_divergence_the_code_takes_few_steps(build, sample, monkeypatch):
    """The path that a reader follows: objective, token_losses, and the distribution's divergence."""
    criterion, student = build("word_kd")
    paths = []

    def noting(*arguments):
        names = [frame.name for frame in traceback.extract_stack()]
        paths.append(names[len(names) - names[::-1].index("forward") : -1])
        return divergence(*arguments)

    divergence = Logits.kl_divergence_from
    monkeypatch.setattr(Logits, "kl_divergence_from", noting)
    criterion(student, sample)
    assert paths[0] == ["objective", "token_losses", "divergence", "divergence"]
