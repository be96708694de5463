"""Teachers weighted by sentence, against a slow form; the limits of the temperature; batches, chunks and precision."""

import math

import pytest
import torch

from nmt_kd.engine import chunks
from nmt_kd.engine.adaptive import AdaptiveTeacher
from nmt_kd.engine.chunks import Projection
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.teacher import Teacher

LIKE = torch.zeros(())


@pytest.fixture
def models(teacher_path, task):
    """Two teachers, neither of which is the better one for all sentences."""
    models = [Teacher.load(str(teacher_path), task).models[0] for _ in range(2)]
    torch.manual_seed(3)
    for model in models:
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return models


def token_index_of(sample, task):
    return target_token_index(sample["target"], task.target_dictionary.pad())


def probabilities(teacher, sample, task, like=LIKE):
    """All predictions, [tokens, V]."""
    return teacher.read(sample, token_index_of(sample, task), like).predict(slice(None)).log_q.exp()


def slow_form(models, sample, task, temperature):
    """The mixture at each token of each sentence in plain lists, and the weights of each sentence."""
    outputs = []
    with torch.no_grad():
        for model in models:
            outputs.append(model.double()(**sample["net_input"])[0].softmax(-1).tolist())
    rows, weights = [], []
    for sentence, target in enumerate(sample["target"].tolist()):
        positions = [p for p, word in enumerate(target) if word != task.target_dictionary.pad()]
        scores = []
        for output in outputs:
            logs = [math.log(output[sentence][p][target[p]]) for p in positions]
            scores.append(math.exp(sum(logs) / len(logs) / temperature))
        weights.append([score / sum(scores) for score in scores])
        for p in positions:
            columns = zip(*(output[sentence][p] for output in outputs), strict=True)
            rows.append([sum(w * q for w, q in zip(weights[-1], column, strict=True)) for column in columns])
    return torch.tensor(rows, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_the_mixture_and_its_weights_are_those_of_the_slow_form(models, sample, task, temperature):
    expected, weights = slow_form(models, sample, task, temperature)
    like = LIKE.double()
    predictions = AdaptiveTeacher(models, "two", temperature).read(sample, token_index_of(sample, task), like)
    torch.testing.assert_close(predictions.logits(slice(None)).exp(), expected)
    torch.testing.assert_close(predictions.log_weights.exp().T, weights)
    assert len(set(weights.argmax(1).tolist())) == 2  # so that the limits below say something


def test_a_high_temperature_is_the_ensemble(models, sample, task):
    ensemble = probabilities(Teacher(models, "two"), sample, task)
    torch.testing.assert_close(probabilities(AdaptiveTeacher(models, "two", 1e9), sample, task), ensemble)


def test_a_low_temperature_is_the_better_teacher_of_each_sentence(models, sample, task):
    ours = probabilities(AdaptiveTeacher(models, "two", 1e-9), sample, task)
    each = torch.stack([probabilities(Teacher([model], "one"), sample, task) for model in models])
    gold = sample["target"].flatten()[token_index_of(sample, task)]
    sentence = token_index_of(sample, task) // sample["target"].size(1)
    scores = each.log()[:, torch.arange(len(gold)), gold]
    for number in range(len(sample["target"])):
        best = scores[:, sentence == number].mean(1).argmax()
        torch.testing.assert_close(ours[sentence == number], each[best, sentence == number])


def test_equal_teachers_have_equal_weights(models, sample, task):
    teacher = AdaptiveTeacher([models[0]] * 3, "three", 0.01)
    torch.testing.assert_close(
        probabilities(teacher, sample, task), probabilities(Teacher([models[0]] * 2, "two"), sample, task)
    )
    assert teacher.summary() == "mean weights of the 3 teachers over 6 sentences: 0.333, 0.333, 0.333"


def test_a_sentence_has_the_same_predictions_in_any_batch(models, sample, task):
    together = probabilities(AdaptiveTeacher(models, "two", 0.5), sample, task)
    dataset, apart = task.dataset("test"), AdaptiveTeacher(models, "two", 0.5)
    alone = {}
    for number in sample["id"].tolist():
        alone[number] = probabilities(apart, dataset.collater([dataset[number]]), task)
    expected = torch.cat([alone[number] for number in sample["id"].tolist()])
    torch.testing.assert_close(together, expected)
    assert apart.summary().startswith("mean weights of the 2 teachers over 6 sentences: 0.")


def test_logits_are_computed_chunk_by_chunk(models, sample, task, monkeypatch):
    expected = probabilities(AdaptiveTeacher(models, "two", 0.5), sample, task)
    logits, largest = Projection.logits, []

    def recorded(self, rows):
        found = logits(self, rows)
        largest.append(len(found))
        return found

    monkeypatch.setattr(Projection, "logits", recorded)
    monkeypatch.setattr(chunks, "default_chunk_tokens", lambda size, device: 7)
    predictions = AdaptiveTeacher(models, "two", 0.5).read(sample, token_index_of(sample, task), LIKE)
    parts = [predictions.predict(rows).logits.exp() for rows in chunks.chunk_slices(len(expected), 7)]
    torch.testing.assert_close(torch.cat(parts), expected)
    assert torch.equal(predictions.first_choices(7), expected.argmax(-1))
    assert max(largest) == 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_are_weighed_in_higher_precision(models, sample, task, dtype):
    expected = probabilities(AdaptiveTeacher(models, "two", 1.0), sample, task)
    ours = probabilities(AdaptiveTeacher(models, "two", 1.0), sample, task, LIKE.to(dtype))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, rtol=0.2, atol=0.02)


def test_nothing_is_said_before_anything_is_predicted(models):
    assert AdaptiveTeacher(models, "two", 1.0).summary() == ""
