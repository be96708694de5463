"""Multilingual KD: two language pairs against a slow form, live and from a store, and the rules that stop a pair."""

import logging
import math

import pytest
import torch
from conftest import TINY_TRANSFORMER, Run, parse_training, train_here
from criterions.test_contract import loss_and_gradients
from fairseq import checkpoint_utils, tasks
from test_training import assert_same_parameters, finish, two_workers

from nmt_kd.checkpoints.task import task_of_data
from nmt_kd.cli import main
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError

PAIRS = ["en-de", "de-en"]
TASK = ["--task", "multilingual_translation", "--lang-pairs", "en-de,de-en", "--encoder-langtok", "tgt"]
METHOD = ["--criterion", "multilingual_kd", "--label-smoothing", "0.1"]
STUDENT = ["--arch", "multilingual_transformer", "--share-encoders", "--share-decoders", *TINY_TRANSFORMER[2:]]


@pytest.fixture(scope="module")
def back_teacher(data, tmp_path_factory):
    """A teacher of the other direction."""
    flags = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1", "--max-update", "40"]
    folder = tmp_path_factory.mktemp("back-teacher")
    train_here(data, folder, *flags, "--disable-validation", "--source-lang", "de", "--target-lang", "en")
    return folder / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def teachers(teacher_path, back_teacher):
    """The value of --teacher-path for both pairs."""
    return f"en-de={teacher_path},de-en={back_teacher}"


@pytest.fixture(scope="module")
def store(data, back_teacher, tmp_path_factory):
    """All words of the teacher from de to en."""
    out = tmp_path_factory.mktemp("store") / "de-en"
    size = str(len(task_of_data(str(data), "de", "en").target_dictionary))
    main(["cache", str(data), str(out), "--teacher-path", str(back_teacher), "--top-k", size])
    return out


class Training:
    """The multilingual task with a student without dropout, a criterion and a batch of both pairs."""

    def __init__(self, data, *flags, method=METHOD):
        cfg = parse_training([data, *STUDENT, *TASK, *method, "--dropout", "0", *flags])
        self.task = tasks.setup_task(cfg.task)
        torch.manual_seed(7)
        self.model = self.task.build_model(cfg.model)
        self.criterion = self.task.build_criterion(cfg.criterion)
        self.task.load_dataset("train")
        dataset = self.task.dataset("train")
        dataset.ordered_indices()
        self.sample = dataset.collater([dataset[number] for number in range(5)])

    def step(self, ignore_grad=False):
        """Train on the batch; the loss, what is logged, and the gradients."""

        class Optimizer:
            @staticmethod
            def backward(loss):
                loss.backward()

        self.model.zero_grad()
        self.criterion.train()
        loss, _, logged = self.task.train_step(
            self.sample, self.model, self.criterion, Optimizer(), 0, ignore_grad=ignore_grad
        )
        return loss, logged, self.gradients()

    def validate(self):
        self.criterion.eval()
        return self.task.valid_step(self.sample, self.model, self.criterion)[2]

    def gradients(self):
        return {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}

    def teachers_logits(self, pair, path):
        """What a teacher predicts for the batch in the form that it was trained on, and which tokens count."""
        task = task_of_data(self.task.args.data, *pair.split("-"))
        (model,) = Teacher.load(str(path), task).models
        net_input = dict(self.sample[pair]["net_input"])
        for name, column in (("src_tokens", -1), ("prev_output_tokens", 0)):
            net_input[name] = net_input[name].clone()
            net_input[name][:, column] = task.source_dictionary.eos()
        return model(**net_input)[0], self.sample[pair]["target"].ne(task.target_dictionary.pad())

    def expected(self, pair, path, alpha=0.9, top_k=4, temperature=0.6):
        """The loss of a pair with whole tensors."""
        logits, kept = self.teachers_logits(pair, path)
        values, words = logits[kept].topk(top_k)
        student = self.model.models[pair](**self.sample[pair]["net_input"])[0][kept]
        log_p = student.log_softmax(-1)
        nll = -log_p.gather(-1, self.sample[pair]["target"][kept].unsqueeze(-1)).sum()
        share = 0.1 / (log_p.size(-1) - 1)
        cross_entropy = (0.9 - share) * nll - share * log_p.sum()
        softened = (student / temperature).log_softmax(-1).gather(-1, words)
        kd = -((values / temperature).softmax(-1) * softened).sum() * temperature**2
        return (1 - alpha) * cross_entropy + alpha * kd


@pytest.mark.parametrize("tokens", [[], ["--decoder-langtok"]])
def test_each_pair_learns_from_its_teacher_as_in_the_slow_form(tokens, data, teacher_path, back_teacher, teachers):
    training = Training(data, "--teacher-path", teachers, *tokens)
    plain = len(task_of_data(str(data), "en", "de").target_dictionary)
    net_inputs = [training.sample[pair]["net_input"] for pair in PAIRS]
    assert all(net_input["src_tokens"][:, -1].ge(plain).all() for net_input in net_inputs)
    assert all(net_input["prev_output_tokens"][:, 0].ge(plain).all() == bool(tokens) for net_input in net_inputs)
    loss, logged, gradients = training.step()
    training.model.zero_grad()
    losses = [training.expected(*taught) for taught in zip(PAIRS, (teacher_path, back_teacher), strict=True)]
    sum(losses).backward()
    assert loss == pytest.approx(sum(losses).item(), rel=1e-5)
    for pair, expected in zip(PAIRS, losses, strict=True):
        torch.testing.assert_close(logged[f"{pair}:loss"], expected.detach())
    torch.testing.assert_close(gradients, training.gradients(), rtol=1e-3, atol=1e-4)


def test_a_single_pair_in_the_translation_task_needs_no_name(build, sample, teacher_path):
    criterion, student = build("multilingual_kd")
    expected = loss_and_gradients(criterion, student, sample)
    criterion, student = build("multilingual_kd", "--teacher-path", f"en-de={teacher_path}")
    torch.testing.assert_close(loss_and_gradients(criterion, student, sample), expected, rtol=0, atol=0)


def test_a_store_replaces_the_teacher_of_a_pair(data, teachers, teacher_path, store):
    live = Training(data, "--teacher-path", teachers)
    mixed = Training(data, "--teacher-path", f"en-de={teacher_path}", "--teacher-cache", f"de-en={store}")
    (loss, logged, gradients), (expected, expected_logged, expected_gradients) = mixed.step(), live.step()
    assert loss == pytest.approx(expected, rel=1e-3)  # float16 on disk
    torch.testing.assert_close(logged["en-de:kd_loss"], expected_logged["en-de:kd_loss"], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients, expected_gradients, rtol=0.02, atol=0.05)


def test_validation_counts_how_far_the_student_is_ahead_of_each_teacher(data, teachers, teacher_path, back_teacher):
    training = Training(data, "--teacher-path", teachers)
    logged = training.validate()
    for pair, path in zip(PAIRS, (teacher_path, back_teacher), strict=True):
        logits, kept = training.teachers_logits(pair, path)
        target = training.sample[pair]["target"][kept]
        with torch.no_grad():
            student = training.model.models[pair](**training.sample[pair]["net_input"])[0][kept]
        ahead = (student.argmax(-1) == target).sum() - (logits[kept].argmax(-1) == target).sum()
        assert ahead != 0
        assert logged[f"{pair}:n_ahead"] == ahead
        assert logged[f"{pair}:n_counted"] == kept.sum()


def test_a_pair_that_has_stopped_has_the_cross_entropy_alone_and_its_teacher_does_not_run(data, teachers):
    training = Training(data, "--teacher-path", teachers)
    training.criterion.compare({"en-de:ahead_of_teacher": 1.2, "de-en:ahead_of_teacher": 0.8})

    def forward(**_):
        raise AssertionError("the teacher runs")

    training.criterion.teacher.teachers["en-de"].models[0].forward = forward
    _, logged, _ = training.step()
    assert "en-de:kd_loss" not in logged
    assert logged["en-de:loss"] == logged["en-de:ce_loss"]
    alone = 0.1 * logged["de-en:ce_loss"] + 0.9 * logged["de-en:kd_loss"]
    torch.testing.assert_close(logged["de-en:loss"], alone)


@pytest.mark.parametrize(
    ("flags", "alphas"),
    [
        ([], {-1.0: 0.9, 0.5: 0.9, 1.0: 0.0}),
        (["--stopping-margin", "0"], {-1.0: 0.9, 0.5: 0.0, 1.0: 0.0}),
        (["--stopping", "adaptive"], {-3.0: 0.9, -1.0: 0.45, 1.0: 0.9 / 8}),
        (["--stopping", "none"], {-3.0: 0.9, 40.0: 0.9}),
    ],
)
def test_alpha_follows_the_latest_validation(flags, alphas, build):
    criterion, _ = build("multilingual_kd", *flags)
    assert criterion.alpha("en-de") == 0.9
    for lead, alpha in alphas.items():
        criterion.has_validated = False
        criterion.compare({"ahead_of_teacher": lead})
        criterion.compare({"ahead_of_teacher": -50.0})  # of a second subset, which does not count
        assert criterion.alpha("en-de") == pytest.approx(alpha)


def test_a_dummy_batch_has_no_gradients(data, teachers):
    loss, _, gradients = Training(data, "--teacher-path", teachers).step(ignore_grad=True)
    assert loss == 0
    assert all(gradient.eq(0).all() for gradient in gradients.values())


def leads_of(run: Run) -> dict[str, float]:
    return run.checkpoint()["criterion"]["_extra_state"]["leads"]


ADAPTIVE = ["--stopping", "adaptive", "--stopping-margin", "-40", "--save-interval-updates", "2"]


def test_a_restart_goes_on_with_what_the_validation_found_to_the_bit(data, teachers, tmp_path, caplog):
    flags = [*TASK, *METHOD, "--teacher-path", teachers, *ADAPTIVE]
    undisturbed = train_here(data, tmp_path / "a", *flags, "--max-update", "4", architecture=STUDENT)
    assert set(leads_of(undisturbed)) == set(PAIRS)
    for pair, lead in leads_of(undisturbed).items():
        assert undisturbed.values("valid", f"valid_{pair}:ahead_of_teacher")[-1] == pytest.approx(lead)
        assert math.isfinite(undisturbed.values("train_inner", f"{pair}:kd_loss")[-1])
        assert f"{pair}: the student's validation accuracy is {-lead:.2f} points below its teacher's" in caplog.text
    train_here(data, tmp_path / "b", *flags, "--max-update", "2", architecture=STUDENT)
    restarted = train_here(data, tmp_path / "b", *flags, "--max-update", "4", architecture=STUDENT)
    assert restarted.values("train_inner", "loss") == undisturbed.values("train_inner", "loss")[2:]
    assert_same_parameters(restarted, undisturbed)
    assert leads_of(restarted) == leads_of(undisturbed)
    without = train_here(data, tmp_path / "c", *flags, "--stopping", "none", "--max-update", "4", architecture=STUDENT)
    assert without.values("train_inner", "loss")[:2] == undisturbed.values("train_inner", "loss")[:2]
    assert without.values("train_inner", "loss")[2] != undisturbed.values("train_inner", "loss")[2]
    checkpoint = [str(undisturbed.save_dir / "checkpoint_last.pt")]  # as fairseq-generate opens it
    overrides = {"source_lang": "de", "target_lang": "en"}
    (student,), _, _ = checkpoint_utils.load_model_ensemble_and_task(checkpoint, arg_overrides=overrides)
    assert list(student.models) == ["de-en"]


def test_two_workers_equal_one_with_twice_the_batch_and_stop_alike(data, teachers, tmp_path):
    flags = [*TASK, *METHOD, "--teacher-path", teachers, *ADAPTIVE, "--dropout", "0"]
    for last_update in ("2", "4"):  # with a restart
        finish(*two_workers(data, tmp_path / "both", "legacy_ddp", *STUDENT, *flags, "--max-update", last_update))
    alone = train_here(
        data, tmp_path / "alone", *flags, "--max-update", "4", "--update-freq", "2", architecture=STUDENT
    )
    assert leads_of(Run(tmp_path / "both")) == pytest.approx(leads_of(alone), abs=0.5)
    assert_same_parameters(Run(tmp_path / "both"), alone, rtol=1e-3, atol=2e-4)


def test_it_trains_in_half_precision(data, teachers, tmp_path):
    flags = [*TASK, *METHOD, "--teacher-path", teachers, "--max-update", "3", "--fp16", "--fp16-no-flatten-grads"]
    run = train_here(data, tmp_path, *flags, "--no-save", architecture=STUDENT)
    assert all(math.isfinite(loss) for loss in run.values("train_inner", "loss"))
    assert -100 <= run.values("valid", "valid_en-de:ahead_of_teacher")[-1] <= 100


def test_a_warning_says_that_stopping_needs_validation(build, caplog):
    with caplog.at_level(logging.WARNING):
        build("multilingual_kd", "--disable-validation")
    assert "--stopping threshold has no effect, since --disable-validation is given" in caplog.text


def message(data, *flags, method=METHOD) -> str:
    with pytest.raises(UserError) as error:
        Training(data, *flags, method=method)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_teachers_are_one_line(data, task, teacher_path, store):
    words = len(task.target_dictionary)
    assert message(data, "--teacher-path", f"en-de={teacher_path}") == (
        "no teacher given for de-en; add de-en=CHECKPOINT to --teacher-path, or de-en=FOLDER to --teacher-cache"
    )
    assert message(data, "--teacher-path", f"en-fr={teacher_path}") == (
        "--teacher-path names the unknown language pair en-fr; choose from en-de, de-en"
    )
    assert message(data, "--teacher-path", teacher_path) == (
        f"--teacher-path has '{teacher_path}' instead of PAIR=VALUE; the language pairs are en-de, de-en"
    )
    assert message(data, "--teacher-path", "en-de=a.pt,en-de=b.pt") == (
        "--teacher-path names the language pair en-de twice; write an ensemble as en-de=A:B"
    )
    assert message(data, "--teacher-path", f"en-de={teacher_path},de-en={teacher_path}") == (
        f"teacher {teacher_path} translates en-de, but the student is trained on de-en; give a teacher of the same "
        "direction"
    )
    assert message(data, "--teacher-cache", f"en-de={store}") == (
        f"{store} has predictions for de-en, but the student is trained on en-de; give a cache of the same direction"
    )
    both = f"en-de={teacher_path},de-en={teacher_path}"
    assert message(data, "--teacher-path", both, "--teacher-cache", f"en-de={store}") == (
        "--teacher-cache replaces --teacher-path; give only one of them"
    )
    assert message(data, "--teacher-path", both, "--kd-top-k", "1000") == (
        f"--kd-top-k is 1000; it must be at most {words}, all words of en-de"
    )


def test_other_settings_that_cannot_work_are_one_line(data, teacher_path, teachers):
    assert message(data, "--teacher-path", teacher_path, method=["--criterion", "word_kd"]) == (
        "word_kd cannot train with MultilingualTranslationTask, which may have several language pairs; choose "
        "--task translation, or a criterion for several pairs (see docs/methods.md)"
    )
    workers = ["--distributed-world-size", "2", "--ddp-backend", "pytorch_ddp", "--distributed-no-spawn"]
    assert message(data, "--teacher-path", teachers, *workers) == (
        "--ddp-backend pytorch_ddp does not synchronise the gradients of --task multilingual_translation; give "
        "--ddp-backend legacy_ddp"
    )


def test_an_error_in_a_batch_names_the_pair(data, teachers):
    training = Training(data, "--teacher-path", teachers)
    training.criterion.teacher.teachers["de-en"].max_positions = lambda: (3, 3)
    with pytest.raises(UserError, match=r"^de-en: a source sentence of"):
        training.step()
