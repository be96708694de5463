"""TIE-KD against a form that runs both models from the start in each iteration, and against single parts of it."""

import copy

import pytest
import torch
from criterions.test_contract import loss_and_gradients
from losses.test_ranking import slow_form as slow_ranking
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from nmt_kd.errors import UserError


def predictions_shifted(logits, previous, padding):
    """The next decoder inputs, one position at a time."""
    inputs = previous.clone()
    for sentence in range(inputs.size(0)):
        for position in range(inputs.size(1) - 1):
            if previous[sentence, position + 1] == padding:
                continue
            scores = logits[sentence, position].tolist()
            words = [word for word in range(len(scores)) if word != padding]
            inputs[sentence, position + 1] = max(words, key=lambda word: scores[word])
    return inputs


def textbook_form(student, teacher, sample, alpha, iterations, top_k, padding, label_smoothing=0.1):
    kept = sample["target"].ne(padding)
    net_input = dict(sample["net_input"])
    total = 0.0
    for iteration in range(iterations):
        logits = student(**net_input)[0]
        with torch.no_grad():
            teacher_logits = teacher(**net_input)[0]
        log_p, log_q = logits.log_softmax(-1), teacher_logits.log_softmax(-1)
        if iteration == 0:
            nll = -log_p.gather(-1, sample["target"].unsqueeze(-1)).squeeze(-1)[kept].sum()
            share = label_smoothing / (log_p.size(-1) - 1)
            cross_entropy = (1 - label_smoothing - share) * nll - share * log_p[kept].sum()
            total = total + (1 - alpha) * cross_entropy
        distilled = functional.kl_div(log_p, log_q, log_target=True, reduction="none").sum(-1)[kept].sum()
        if top_k:
            distilled = distilled + differentiable_ranking(logits[kept], teacher_logits[kept], top_k)
        total = total + alpha / iterations * distilled
        net_input["prev_output_tokens"] = predictions_shifted(logits, net_input["prev_output_tokens"], padding)
    return total


def differentiable_ranking(student_logits, teacher_logits, top_k):
    """The ranking loss with loops over the words, checked itself against the form in plain Python."""
    p, q = student_logits.softmax(-1), teacher_logits.softmax(-1)
    total = p.new_zeros(())
    for row_p, row_q in zip(p, q, strict=True):
        s, t = row_p.topk(top_k).indices, row_q.topk(top_k).indices
        for u in t:
            for v in s:
                if row_q[u] > row_q[v]:
                    total = total + (row_p[v] - row_p[u]).clamp(min=0)
            if row_q[t[0]] > row_q[u]:
                total = total + (row_p[u] - row_p[t[0]]).clamp(min=0)
    expected = slow_ranking(student_logits.detach().double(), teacher_logits.double(), top_k).sum()
    torch.testing.assert_close(total.detach().double(), expected, rtol=1e-4, atol=1e-5)
    return total


@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize("top_k", [0, 1, 5])
def test_equals_the_form_that_runs_both_models_anew_each_time(build, sample, task, iterations, top_k):
    flags = ["--kd-iterations", iterations, "--ranking-top-k", top_k, "--kd-alpha", "0.4"]
    criterion, student = build("tie_kd", *flags)
    before = copy.deepcopy(sample)
    loss, gradient, _ = loss_and_gradients(criterion, student, sample)
    torch.testing.assert_close(sample, before, rtol=0, atol=0)
    student.zero_grad()
    padding = task.target_dictionary.pad()
    expected = textbook_form(student, criterion.teacher.models[0], sample, 0.4, iterations, top_k, padding)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_one_iteration_without_ranking_is_word_kd_to_the_bit(build, sample):
    ours = loss_and_gradients(*build("tie_kd", "--kd-iterations", 1, "--ranking-top-k", 0), sample)
    theirs = loss_and_gradients(*build("word_kd"), sample)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda *ignored: calls.append(1))
    return calls


@pytest.mark.parametrize("iterations", [1, 3])
def test_encoders_run_once_and_decoders_once_an_iteration(build, sample, iterations):
    criterion, student = build("tie_kd", "--kd-iterations", iterations)
    teacher = criterion.teacher.models[0]
    calls = [count_calls(module) for module in (student.encoder, teacher.encoder, student.decoder, teacher.decoder)]
    criterion(student, sample)
    assert [len(found) for found in calls] == [1, 1, iterations, iterations]


def test_validation_runs_the_decoders_once_and_reports_the_first_iteration(build, sample):
    three, one = build("tie_kd"), build("tie_kd", "--kd-iterations", 1)
    logged = []
    for criterion, student in (three, one):
        criterion.eval()
        student.eval()
        teacher = criterion.teacher.models[0]
        calls = [count_calls(module) for module in (student.encoder, teacher.encoder, student.decoder, teacher.decoder)]
        with torch.no_grad():
            logged.append(criterion(student, sample)[2])
        assert [len(found) for found in calls] == [1, 1, 1, 1]
    torch.testing.assert_close(logged[0], logged[1])


def test_padding_is_never_predicted_and_stays_where_it_is(build, sample, task):
    criterion, student = build("tie_kd")
    padding = task.target_dictionary.pad()
    with torch.no_grad():  # a student that likes padding better than anything
        student.decoder.output_projection.weight[padding] = 10 * student.decoder.output_projection.weight.sum(0)
    seen = []
    student.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()) if inputs else None)
    criterion(student, sample)
    original = sample["net_input"]["prev_output_tokens"]
    assert len(seen) == 3
    for inputs in seen[1:]:
        assert torch.equal(inputs.eq(padding), original.eq(padding))
        assert torch.equal(inputs[:, 0], original[:, 0])
        assert not torch.equal(inputs, original)


def test_the_symbols_behind_an_ignored_prefix_stay_gold(build, sample):
    criterion, student = build("tie_kd", "--ignore-prefix-size", 2, "--kd-iterations", 2)
    seen = []
    student.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()) if inputs else None)
    criterion(student, sample)
    original = sample["net_input"]["prev_output_tokens"]
    assert torch.equal(seen[1][:, :3], original[:, :3])
    assert not torch.equal(seen[1], original)


def test_each_decoder_pass_of_a_student_with_dropout_drops_anew(build, sample):
    criterion, student = build("tie_kd", "--dropout", "0.5")
    torch.manual_seed(1)
    batch = criterion.read(student, sample)
    again = [batch.decode(batch.prev_output_tokens) for _ in range(2)]
    every_word = torch.arange(again[0].student.projection.vocabulary_size).expand(len(batch.gold), -1)
    assert not torch.equal(again[0].student.projection.features, again[1].student.projection.features)
    torch.testing.assert_close(*(view.teacher.predict(slice(None)).log_q_of(every_word) for view in again))


def test_logs_the_means_over_the_iterations(build, sample):
    criterion, student = build("tie_kd", "--kd-alpha", "1")
    loss, _, logged = criterion(student, sample)
    torch.testing.assert_close(loss.detach(), logged["kd_loss"] + logged["ranking_loss"])


class LogitsHeld(TorchDispatchMode):
    """The largest number of rows of any tensor that is as wide as the vocabulary."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.rows = vocabulary, 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and not function.is_view and tensor.shape[-1:] == (self.vocabulary,):
                self.rows = max(self.rows, tensor.numel() // self.vocabulary)
        return result


def test_no_more_than_a_chunk_of_logits_is_held_whatever_the_iterations(build, sample, task):
    criterion, student = build("tie_kd", "--kd-chunk-tokens", 8)
    with LogitsHeld(len(task.target_dictionary)) as held:
        criterion(student, sample)[0].backward()
    assert held.rows == 8


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ranking-top-k", "-1"], "--ranking-top-k is -1; it must be 0 or more"),
        (["--ranking-top-k", "100000"], "--ranking-top-k is 100000; it must be at most"),
        (["--kd-iterations", "0"], "--kd-iterations is 0; it must be 1 or more"),
        (["--kd-alpha", "2"], "--kd-alpha is 2.0; it must be from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(build, flags, message):
    with pytest.raises(UserError) as error:
        build("tie_kd", *flags)
    assert str(error.value).startswith(message)
