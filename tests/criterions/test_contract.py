"""What every distillation criterion must hold, whichever method it is; a new one is tested by being registered."""

import argparse
import copy
import math
from dataclasses import replace

import pytest
import torch
from conftest import EVERY_METHOD, TINY_TRANSFORMER, parse_training
from fairseq import options
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.logging import metrics

from nmt_kd.criterions.config import InterpolationConfig
from nmt_kd.engine.predictions import Predictions, TeacherSource, TopWords
from nmt_kd.errors import UserError

INDEPENDENT = [name for name in EVERY_METHOD if CRITERION_REGISTRY[name].tokens_are_independent]
INTERPOLATING = [name for name in EVERY_METHOD if issubclass(CRITERION_DATACLASS_REGISTRY[name], InterpolationConfig)]


def gradients(student, criterion):
    """The gradients of the student's parameters, and of the criterion's own."""
    own = {f"criterion.{name}": parameter for name, parameter in criterion.named_parameters()}
    own.pop("criterion.saved_with_the_model", None)  # which is not trained
    parameters = {**dict(student.named_parameters()), **own}
    return {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}


def loss_and_gradients(criterion, student, sample):
    student.zero_grad()
    criterion.zero_grad()
    loss, _, logging_output = criterion(student, sample)
    loss.backward()
    return loss.detach(), gradients(student, criterion), logging_output


@pytest.fixture
def stock(task, data):
    """fairseq's own criterion with the label smoothing of `build`."""
    flags = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
    return task.build_criterion(parse_training([data, *TINY_TRANSFORMER, *flags]).criterion)


@pytest.fixture
def pair(task, sample):
    """Two batches of two sentences of different length, and both as one batch."""
    dataset = task.dataset("test")
    groups = [0, 1], [2, 3], [0, 1, 2, 3]
    return [dataset.collater([dataset[index] for index in group]) for group in groups]


def add_padding(sample, task, columns):
    """The same batch with more padding: sources on the left, targets on the right."""
    padding = task.source_dictionary.pad()
    wider = copy.deepcopy(sample)
    net_input = wider["net_input"]
    net_input["src_tokens"] = torch.nn.functional.pad(net_input["src_tokens"], (columns, 0), value=padding)
    for holder, name in ((net_input, "prev_output_tokens"), (wider, "target")):
        holder[name] = torch.nn.functional.pad(holder[name], (0, columns), value=padding)
    return wider


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_padding_changes_nothing(method, build, task, sample):
    criterion, student = build(method)
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    padded_loss, padded_gradient, _ = loss_and_gradients(criterion, student, add_padding(sample, task, 5))
    torch.testing.assert_close(padded_loss, loss)
    torch.testing.assert_close(padded_gradient, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", INDEPENDENT)
def test_a_batchs_loss_is_the_sum_of_its_parts(method, build, pair):
    criterion, student = build(method)
    *parts, whole = (loss_and_gradients(criterion, student, sample) for sample in pair)
    torch.testing.assert_close(sum(loss for loss, _, _ in parts), whole[0])
    summed = {name: sum(gradient[name] for _, gradient, _ in parts) for name in whole[1]}
    torch.testing.assert_close(summed, whole[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_the_size_of_chunks_changes_nothing(method, build, sample, chunk):
    criterion, student = build(method)
    expected = loss_and_gradients(criterion, student, sample)
    criterion.cfg.kd_chunk_tokens = chunk
    ours = loss_and_gradients(criterion, student, sample)
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1], expected[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_validation_reports_the_plain_cross_entropy_and_the_agreement(method, build, stock, sample):
    criterion, student = build(method)
    student.eval()
    criterion.eval()
    with torch.no_grad():
        loss, sample_size, logged = criterion(student, sample)
        stock_loss, stock_size, stock_logged = stock(student, sample)
    torch.testing.assert_close(loss, stock_loss)
    torch.testing.assert_close(logged["nll_loss"], stock_logged["nll_loss"])
    assert sample_size == stock_size
    assert {name: logged[name] for name in ("ntokens", "nsentences", "sample_size")} == {
        name: stock_logged[name] for name in ("ntokens", "nsentences", "sample_size")
    }
    assert logged["n_counted"] == sample["ntokens"]
    if criterion.teacher is not None:
        assert 0 <= logged["n_agree"] <= logged["n_counted"]


@pytest.mark.parametrize("method", INTERPOLATING)
def test_alpha_zero_is_the_plain_cross_entropy(method, build, stock, sample):
    criterion, student = build(method, "--kd-alpha", 0)
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    expected, expected_gradient, _ = loss_and_gradients(stock, student, sample)
    torch.testing.assert_close(loss, expected)
    of_student = {name: gradient[name] for name in expected_gradient}
    torch.testing.assert_close(of_student, expected_gradient, rtol=1e-3, atol=1e-4)


class Store(TeacherSource):
    """What a store of the top `k` words gives in place of a live teacher."""

    def __init__(self, teacher, k):
        self.teacher, self.k = teacher, k

    def read(self, sample, token_index, like):
        return Stored(self.teacher.read(sample, token_index, like), self.k)


class Stored(Predictions):
    def __init__(self, predictions, k):
        self.predictions, self.k = predictions, k

    def predict(self, rows):
        return self.predictions.predict(rows).coarse(self.k)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_method_needs_no_more_than_it_declares(method, build, task, sample):
    """From a store of the declared number of words it trains; from one of all words it learns what the teacher says."""
    criterion, student = build(method)
    if not isinstance(criterion.needs, TopWords) or criterion.needs.at_new_prefixes:
        pytest.skip("needs more than a store")
    live, teacher = loss_and_gradients(criterion, student, sample), criterion.teacher
    criterion, student = build(method)
    object.__setattr__(criterion, "teacher", Store(teacher, criterion.needs.k))
    assert loss_and_gradients(criterion, student, sample)[0].isfinite()
    criterion, student = build(method)
    object.__setattr__(criterion, "teacher", Store(teacher, len(task.target_dictionary)))
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    torch.testing.assert_close(loss, live[0])
    torch.testing.assert_close(gradient, live[1], rtol=1e-3, atol=1e-4)


class PartlyUnknown(Store):
    """A store that has predictions for every other token only, for the `odd` ones or the others."""

    def __init__(self, teacher, k, odd):
        super().__init__(teacher, k)
        self.odd = odd

    def read(self, sample, token_index, like):
        unknown, k, odd = self.teacher.read(sample, token_index, like), self.k, self.odd

        class Some(Predictions):
            def predict(self, rows):
                top = unknown.predict(rows).coarse(k)
                return replace(top, known_tokens=torch.arange(len(token_index))[rows] % 2 == odd)

        return Some()


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_tokens_without_a_prediction_learn_from_the_reference_alone(method, build, stock, task, sample):
    """Two halves taught, each by a store that knows nothing of the other, are all tokens taught and all untaught."""
    flags = CRITERION_REGISTRY[method].settings_for_a_cache.split()
    criterion, student = build(method, *flags)
    if (
        not isinstance(criterion.needs, TopWords)
        or criterion.needs.at_new_prefixes
        or not criterion.tokens_are_independent
    ):
        pytest.skip("needs more than a store, or the tokens depend on each other")
    teacher, words = criterion.teacher, len(task.target_dictionary)
    runs = []
    for store in (PartlyUnknown(teacher, words, 0), PartlyUnknown(teacher, words, 1), Store(teacher, words)):
        criterion, student = build(method, *flags)
        object.__setattr__(criterion, "teacher", store)
        runs.append(loss_and_gradients(criterion, student, sample))
    even, odd, whole = runs
    plain = loss_and_gradients(stock, student, sample)
    torch.testing.assert_close(even[0] + odd[0], whole[0] + plain[0])
    for name, gradient in whole[1].items():
        torch.testing.assert_close(even[1][name] + odd[1][name], gradient + plain[1].get(name, 0), rtol=1e-3, atol=1e-4)
    assert even[2]["n_unknown"] + odd[2]["n_unknown"] == even[2]["n_asked"] == sample["ntokens"]
    assert not even[0].isclose(plain[0])


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_the_sample_and_the_teacher_stay_as_they_are(method, build, sample):
    criterion, student = build(method)
    models = criterion.teacher.models if criterion.teacher is not None else []
    before = copy.deepcopy(sample), [copy.deepcopy(model.state_dict()) for model in models]
    loss_and_gradients(criterion, student, sample)
    torch.testing.assert_close(sample, before[0])
    for model, state in zip(models, before[1], strict=True):
        torch.testing.assert_close(model.state_dict(), state)
        assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_the_teacher_is_no_part_of_the_criterions_state_or_parameters(method, build):
    criterion, _ = build(method)
    models = criterion.teacher.models if criterion.teacher is not None else []
    teachers = {id(parameter) for model in models for parameter in model.parameters()}
    assert not teachers & {id(parameter) for parameter in criterion.parameters()}
    assert not any("teacher" in name for name in criterion.state_dict())


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_finite_losses_and_gradients(method, build, sample, dtype, monkeypatch):
    criterion, student = build(method)
    prepared = criterion.prepare(student, sample)  # once, for samples of a rounded student are others
    monkeypatch.setattr(criterion, "prepare", lambda model, sample: prepared)
    exact, _, _ = loss_and_gradients(criterion, student, sample)
    student.to(dtype)
    criterion.to(dtype)
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    assert all(values.isfinite().all() for values in gradient.values())


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize(
    "architecture",
    [["--arch", "lstm_wiseman_iwslt_de_en"], ["--arch", "fconv_iwslt_de_en"]],
    ids=["lstm", "fconv"],
)
def test_trains_a_student_of_another_family(method, build, sample, architecture):
    if not CRITERION_REGISTRY[method].any_architecture:
        with pytest.raises(UserError, match=f"^{method} .* the student has a "):
            build(method, architecture=architecture)
        return
    criterion, student = build(method, architecture=architecture)
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    assert loss.isfinite()
    assert all(values.isfinite().all() for values in gradient.values())


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_the_signature_names_method_settings_teacher_and_versions(method, build, teacher_path):
    criterion, _ = build(method)
    signature = criterion.signature
    parts = [f"method:{method}|", "|label_smoothing:0.1|", "|nmt_kd:", "|fairseq:0.12.", "|torch:"]
    if criterion.teacher is not None:
        parts.append(f"|teacher_sha256:{criterion.teacher.fingerprint}|")
    if hasattr(criterion.cfg, "teacher_path"):
        parts.append(f"|teacher_path:{teacher_path}|")
    assert [part for part in parts if part not in signature] == []
    assert "\n" not in signature


def saved(criterion) -> dict:
    """The state without the name of the method, which cannot be compared with a tolerance."""
    state = criterion.state_dict()
    state.get("_extra_state", {}).pop("made_by", None)
    return state


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_dummy_batch_leaves_the_state_alone(method, build, task, sample):
    """fairseq runs one on a worker that has run dry, and drops its gradients."""
    criterion, student = build(method)
    before = copy.deepcopy(saved(criterion))

    class Optimizer:
        @staticmethod
        def backward(loss):
            assert loss == 0

    task.train_step(sample, student, criterion, Optimizer(), 5, ignore_grad=True)
    torch.testing.assert_close(saved(criterion), before, rtol=0, atol=0)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_validation_leaves_the_state_alone(method, build, sample):
    criterion, student = build(method)
    before = copy.deepcopy(saved(criterion))
    criterion.eval()
    with torch.no_grad():
        criterion(student.eval(), sample)
    torch.testing.assert_close(saved(criterion), before, rtol=0, atol=0)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_log_names_are_losses_counts_or_the_methods_own_reports(method, build, sample):
    criterion, student = build(method)
    logged = criterion(student, sample)[2]
    with metrics.aggregate() as reported:
        type(criterion).reduce_metrics([logged, logged])
    assert {name for name in logged if name.endswith("_loss")} <= set(reported.get_smoothed_values())
    for name, value in reported.get_smoothed_values().items():
        assert math.isfinite(value), name


def test_class_names_are_unique():
    names = [CRITERION_REGISTRY[method].__name__ for method in EVERY_METHOD]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_no_flag_is_one_of_fairseqs_own(method):
    """A flag defined twice is silently swallowed by fairseq, its second default included."""
    parser = argparse.ArgumentParser()
    gen_parser_from_dataclass(parser, CRITERION_DATACLASS_REGISTRY[method]())
    ours = {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}
    fairseqs = {flag for action in options.get_training_parser()._actions for flag in action.option_strings}
    assert ours & fairseqs == set()


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_every_setting_explains_itself(method):
    for name, item in CRITERION_DATACLASS_REGISTRY[method].__dataclass_fields__.items():
        taken_from_fairseq = str(item.default).startswith("${")
        if not name.startswith("_") and not taken_from_fairseq:
            assert len(item.metadata["help"]) > 20, name
