import json
import math
import re
import shutil
from dataclasses import asdict

import pytest
import torch
from conftest import train_here
from fairseq import checkpoint_utils
from test_agreement_measures import slow_displacement, slow_edit_distance, slow_ranking
from test_calibration import slow_calibration_error

from nmt_kd.cli import main
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.evaluation.agreement import measure_agreement
from nmt_kd.evaluation.agreement_measures import Bounds


@pytest.fixture(scope="module")
def student_path(data, tmp_path_factory):
    criterion = ["--criterion", "label_smoothed_cross_entropy", "--max-update", "30"]
    return train_here(data, tmp_path_factory.mktemp("student"), *criterion).save_dir / "checkpoint_last.pt"


@pytest.fixture
def in_float64():
    """Models that compute in float64, where no two of a few thousand logits differ only by rounding.

    In float32, the order of words that are nearly tied depends on the processor and on the shapes of batches.
    """
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def slow_form(task, paths, subset, top_k):
    """Compute the properties of each token in plain Python, one sentence and one position at a time."""
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(path) for path in paths], task=task)
    task.load_dataset(subset)
    dataset = task.dataset(subset)
    dictionary = task.target_dictionary
    words = range(dictionary.nspecial, len(dictionary))
    by_frequency = sorted(words, key=lambda word: (-dictionary.count[word], word))
    tokens = []
    for index in range(len(dataset)):
        sample = dataset.collater([dataset[index]])
        student, teacher = (model.eval()(**sample["net_input"])[0][0].tolist() for model in models)
        for ours, theirs, gold in zip(student, teacher, sample["target"][0].tolist(), strict=True):
            first, second = slow_ranking(ours), slow_ranking(theirs)
            tokens.append(
                {
                    "agreeing": first[0] == second[0],
                    "edits": slow_edit_distance(first[:top_k], second[:top_k]),
                    "displacement": slow_displacement(theirs, ours, top_k),
                    "teacher": second[0] == gold,
                    "student": first[0] == gold,
                    "confidence": 1 / sum(math.exp(logit - max(theirs)) for logit in theirs),
                    "student_confidence": 1 / sum(math.exp(logit - max(ours)) for logit in ours),
                    "source": len(dataset[index]["source"]),
                    "target": len(dataset[index]["target"]),
                    "rank": by_frequency.index(gold) + 1 if gold in words else 0,
                }
            )
    return tokens


def slow_measures(tokens, of, top_k):
    """The measures of `tokens`, a subset of `of` tokens."""
    count = len(tokens)

    def mean(name, factor):
        return pytest.approx(factor * sum(token[name] for token in tokens) / count) if count else None

    return {
        "teacher_agreement": mean("agreeing", 100),
        "tokens": count,
        "agreeing": sum(token["agreeing"] for token in tokens),
        "share": pytest.approx(100 * count / of),
        "edit_distance": mean("edits", 1),
        "ranking_distance": mean("displacement", 1 / top_k),
        "teacher_accuracy": mean("teacher", 100),
        "student_accuracy": mean("student", 100),
    }


def measure(student, teacher, data, subset="test", max_tokens=300, **kwargs):
    return measure_agreement(str(student), str(teacher), str(data), subset, max_tokens, **kwargs)


@pytest.mark.parametrize("top_k", [1, 5])
def test_every_measure_matches_counting_position_by_position(student_path, teacher_path, data, task, in_float64, top_k):
    bounds = Bounds(confidence=(0.05, 0.1), length=(40, 60), frequency=(10, 60))
    ours = measure(student_path, teacher_path, data, top_k=top_k, bounds=bounds).as_dict()
    tokens = slow_form(task, [student_path, teacher_path], "test", top_k)

    def of(holds):
        return slow_measures([token for token in tokens if holds(token)], len(tokens), top_k)

    buckets = ours.pop("buckets")
    calibration = {
        "student_calibration_error": [(token["student_confidence"], token["student"]) for token in tokens],
        "teacher_calibration_error": [(token["confidence"], token["teacher"]) for token in tokens],
    }
    errors = {name: pytest.approx(slow_calibration_error(pairs)) for name, pairs in calibration.items()}
    assert ours == {**of(lambda token: True), "top_k": top_k, **errors}
    assert buckets["teacher_confidence"] == {
        "(0, 0.05]": of(lambda token: token["confidence"] <= 0.05),
        "(0.05, 0.1]": of(lambda token: 0.05 < token["confidence"] <= 0.1),
        "(0.1, 1]": of(lambda token: token["confidence"] > 0.1),
    }
    for side in ("source", "target"):
        assert buckets[f"{side}_length"] == {
            "1-40": of(lambda token, side=side: token[side] <= 40),
            "41-60": of(lambda token, side=side: 41 <= token[side] <= 60),
            "61+": of(lambda token, side=side: token[side] >= 61),
        }
    assert buckets["frequency_rank"] == {
        "special symbols": of(lambda token: token["rank"] == 0),
        "1-10": of(lambda token: 1 <= token["rank"] <= 10),
        "11-60": of(lambda token: 11 <= token["rank"] <= 60),
        "61+": of(lambda token: token["rank"] > 60),
    }
    filled = [bucket["tokens"] > 0 for grouping in buckets.values() for bucket in grouping.values()]
    assert all(filled)


def test_a_model_agrees_with_itself_at_any_batch_size(teacher_path, data):
    for max_tokens in (100, 4000):
        total = measure(teacher_path, teacher_path, data, max_tokens=max_tokens).total
        assert (total.teacher_agreement, total.edit_distance, total.ranking_distance) == (100, 0, 0)
        assert total.teacher_accuracy == total.student_accuracy
        assert total.tokens > 13


def test_buckets_sum_to_the_total(student_path, teacher_path, data):
    ours = measure(student_path, teacher_path, data)
    assert len(ours.buckets) == 4
    for buckets in ours.buckets.values():
        found = buckets.values()
        assert sum(bucket.tokens for bucket in found) == ours.total.tokens
        assert sum(bucket.agreeing for bucket in found) == ours.total.agreeing
        for name in ("edit_distance", "ranking_distance", "teacher_accuracy", "student_accuracy"):
            weighted = sum(bucket.tokens * (getattr(bucket, name) or 0) for bucket in found)
            assert weighted / ours.total.tokens == pytest.approx(getattr(ours.total, name))


def test_chunks_and_batches_change_nothing(student_path, teacher_path, data, in_float64, monkeypatch):
    whole = measure(student_path, teacher_path, data, max_tokens=4000)
    monkeypatch.setattr("nmt_kd.evaluation.agreement_measures.default_chunk_tokens", lambda *sizes: 3)
    in_chunks = measure(student_path, teacher_path, data, max_tokens=100)
    assert asdict(in_chunks.total) == pytest.approx(asdict(whole.total), abs=1e-8)
    for name in ("student_calibration_error", "teacher_calibration_error"):
        assert 0 < getattr(in_chunks, name) < 100
        assert getattr(in_chunks, name) == pytest.approx(getattr(whole, name), abs=1e-8)
    assert whole.student_calibration_error != whole.teacher_calibration_error


def test_an_ensemble_is_compared_as_one_model(student_path, teacher_path, data, in_float64):
    pair = f"{student_path}:{student_path}"  # averaging two equal models changes at most the last bits
    assert measure(pair, teacher_path, data).total == measure(student_path, teacher_path, data).total


def test_progress_is_logged(teacher_path, data, caplog):
    with caplog.at_level("INFO"):
        measure(teacher_path, teacher_path, data, max_tokens=100)
    done = [record.getMessage() for record in caplog.records if record.name == "nmt_kd.progress"]
    assert re.match(r"test: (\d+) of \1 batches, [\d.,]+ batches/s, 0\.0 min left$", done[-1])


@pytest.mark.parametrize("top_k", [0, -1, 10**6])
def test_a_top_k_out_of_range_is_refused(teacher_path, data, task, top_k):
    size = len(task.target_dictionary)
    message = f"^--top-k is {top_k}; it must be from 1 to {size}, the size of the vocabulary$"
    with pytest.raises(UserError, match=message):
        measure(teacher_path, teacher_path, data, top_k=top_k)
    measure(teacher_path, teacher_path, data, top_k=size)


def test_a_missing_subset_is_refused(teacher_path, data):
    with pytest.raises(UserError, match=r"has no train9\.en-de; it has test, train, valid: choose with --gen-subset"):
        measure(teacher_path, teacher_path, data, "train9")


def test_further_test_sets_can_be_measured(student_path, teacher_path, data, tmp_path):
    more = tmp_path / "data-bin"
    shutil.copytree(data, more)
    for path in data.glob("valid.*"):
        shutil.copy(path, more / path.name.replace("valid", "test1"))
    second = measure(student_path, teacher_path, more, "test1")
    assert second == measure(student_path, teacher_path, data, "valid")
    assert second != measure(student_path, teacher_path, more)


def test_a_folder_without_data_is_refused(teacher_path, tmp_path):
    with pytest.raises(UserError, match=r"has no dict\.\*\.txt; give a folder that fairseq-preprocess wrote"):
        measure(teacher_path, teacher_path, tmp_path)


def test_batches_too_small_for_a_sentence_are_refused(teacher_path, data):
    with pytest.raises(UserError, match=r"^--max-tokens is 2, too few for the longest sentence of test; raise it$"):
        measure(teacher_path, teacher_path, data, max_tokens=2)
    with pytest.raises(UserError, match=r"^--max-tokens is 0; it must be 1 or more$"):
        measure(teacher_path, teacher_path, data, max_tokens=0)


def test_in_half_precision_the_measures_hardly_change(student_path, teacher_path, data, monkeypatch, capsys):
    seen = []
    read = Teacher.read
    monkeypatch.setattr(Teacher, "read", lambda *args: seen.append(args[-1].dtype) or read(*args))
    found = []
    for flags in ([], ["--fp16"]):
        main(["agreement", str(student_path), str(teacher_path), str(data), "--json", *flags])
        found.append(json.loads(capsys.readouterr().out))
    assert set(seen) == {torch.float32, torch.float16}
    for name in ("teacher_agreement", "teacher_accuracy", "student_accuracy"):
        assert found[1][name] == pytest.approx(found[0][name], abs=3)
    assert found[1]["tokens"] == found[0]["tokens"]
