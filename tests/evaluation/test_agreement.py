import pytest
import torch
from conftest import train_here
from fairseq import checkpoint_utils

from nmt_kd.errors import UserError
from nmt_kd.evaluation.agreement import measure_agreement


@pytest.fixture(scope="module")
def student_path(data, tmp_path_factory):
    criterion = ["--criterion", "label_smoothed_cross_entropy", "--max-update", "30"]
    return train_here(data, tmp_path_factory.mktemp("student"), *criterion).save_dir / "checkpoint_last.pt"


def slow_form(task, paths, subset):
    """One sentence, one position at a time."""
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(path) for path in paths], task=task)
    task.load_dataset(subset)
    dataset = task.dataset(subset)
    agreeing = tokens = 0
    for index in range(len(dataset)):
        sample = dataset.collater([dataset[index]])
        first, second = (model.eval()(**sample["net_input"])[0][0] for model in models)
        for position in range(sample["target"].size(1)):
            tokens += 1
            agreeing += int(first[position].argmax() == second[position].argmax())
    return agreeing, tokens


def test_equals_counting_position_by_position(student_path, teacher_path, data, task):
    ours = measure_agreement(str(student_path), str(teacher_path), str(data), "test", max_tokens=300)
    assert (ours.agreeing, ours.tokens) == slow_form(task, [student_path, teacher_path], "test")
    assert ours.percent == 100 * ours.agreeing / ours.tokens


def test_a_model_agrees_with_itself_whatever_the_batches(teacher_path, data):
    for max_tokens in (100, 4000):
        ours = measure_agreement(str(teacher_path), str(teacher_path), str(data), "test", max_tokens)
        assert ours.percent == 100
        assert torch.tensor(ours.tokens) > 13


def test_a_subset_that_is_not_there_is_named(teacher_path, data):
    with pytest.raises(UserError, match="has no subset 'train9'"):
        measure_agreement(str(teacher_path), str(teacher_path), str(data), "train9", 300)
