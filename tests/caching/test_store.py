"""Stores of predictions that other programs write and read."""

import math

import numpy
import pytest
import torch

from nmt_kd.caching.building import build_cache
from nmt_kd.caching.sources import checkpoint
from nmt_kd.caching.store import read_store, sentences, task_of_data, write_store
from nmt_kd.errors import UserError

SENTENCES = 20  # of valid
TOP_K = 3


@pytest.fixture(scope="module")
def translation(data):
    return task_of_data(str(data))


@pytest.fixture(scope="module")
def made_up(translation):
    """Predictions for valid, most probable first, and the log of what they leave."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _, target in sentences(translation, "valid"):
        logits = 3 * torch.randn(len(target), len(translation.target_dictionary), generator=generator)
        log_q, words = logits.double().log_softmax(-1).topk(TOP_K)
        found.append((words, log_q, (1 - log_q.exp().sum(-1)).log()))
    return found


@pytest.fixture
def write(translation, tmp_path):
    def write(predictions, folder=tmp_path / "store", teacher="made up", **settings):
        settings = {"top_k": TOP_K, "block_sentences": 8, **settings}
        write_store(folder, translation, "valid", predictions, teacher, **settings)
        return folder

    return write


def blocks(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "valid").glob("*.safetensors"))}


def test_sentences_are_those_that_a_student_is_trained_on(translation, task):
    task.load_dataset("valid")
    found = list(sentences(translation, "valid"))
    assert len(found) == SENTENCES
    for (source, target), item in zip(found, task.dataset("valid"), strict=True):
        assert source.equal(item["source"])
        assert target.equal(item["target"])


def test_what_is_written_is_read_and_the_rest_is_what_the_words_leave(write, translation, made_up):
    folder = write((words, log_q) for words, log_q, _ in made_up)
    for ours, (words, log_q, log_rest) in zip(read_store(folder, translation, "valid"), made_up, strict=True):
        assert [part.dtype for part in ours] == [torch.int64, torch.float32, torch.float32]
        assert ours[0].equal(words)
        torch.testing.assert_close(ours[1], log_q.float(), rtol=2**-11, atol=0)
        torch.testing.assert_close(ours[2], log_rest.float())


def test_what_nmt_kd_cache_writes_is_written_again_to_the_bit(data, teacher_path, write, translation, tmp_path):
    cache = tmp_path / "cache"
    task, source = checkpoint.open_source(str(data), str(teacher_path), checkpoint.Options())
    build_cache(task, source, cache, TOP_K, ["valid"], block_sentences=8)
    assert blocks(write(read_store(cache, translation, "valid"))) == blocks(cache)


def test_words_come_in_any_order_and_as_any_array(write, made_up, tmp_path):
    order = [2, 0, 1]
    arrays = ((words.numpy()[:, order].astype(numpy.uint16), log_q.numpy()[:, order]) for words, log_q, _ in made_up)
    sorted_store = write(((words, log_q) for words, log_q, _ in made_up), tmp_path / "sorted")
    assert blocks(write(arrays)) == blocks(sorted_store)


def test_impossible_words_and_an_empty_rest_are_finite_for_the_student(write, translation, made_up):
    certain = torch.tensor([0.0, -math.inf, -math.inf])
    folder = write((words, certain.expand_as(words)) for words, _, _ in made_up)
    for _, log_q, log_rest in read_store(folder, translation, "valid"):
        assert log_q.isfinite().all()
        assert log_q[:, 0].eq(0).all()
        assert log_q[:, 1:].le(-100).all()
        assert log_rest.eq(-math.inf).all()


def test_a_rest_that_is_given_is_kept(write, translation, made_up):
    folder = write((words, log_q, torch.full((len(words),), -30.0)) for words, log_q, _ in made_up)
    assert all(log_rest.eq(-30).all() for _, _, log_rest in read_store(folder, translation, "valid"))


def test_a_sentence_may_have_no_predictions(write, translation, made_up, tmp_path):
    folder = write(None if number == 4 else prediction for number, prediction in enumerate(made_up))
    lengths = [len(words) for words, _, _ in read_store(folder, translation, "valid")]
    assert lengths == [0 if number == 4 else len(words) for number, (words, _, _) in enumerate(made_up)]
    assert blocks(write(read_store(folder, translation, "valid"), tmp_path / "again")) == blocks(folder)


def test_no_sentence_may_have_predictions(write, translation):
    folder = write(None for _ in range(SENTENCES))
    assert all(words.shape == (0, TOP_K) for words, _, _ in read_store(folder, translation, "valid"))


def test_after_an_interruption_the_same_call_completes_the_same_files(write, made_up, translation, tmp_path):
    whole = write(made_up, tmp_path / "whole")

    def interrupted():
        yield from made_up[:10]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(interrupted())
    assert list(blocks(tmp_path / "store")) == ["0000000.safetensors"]
    with pytest.raises(UserError, match=r"/store/valid lacks 2 of its 3 files; rerun"):
        next(read_store(tmp_path / "store", translation, "valid"))
    first = tmp_path / "store/valid/0000000.safetensors"
    written = first.stat().st_mtime_ns
    write(made_up)
    assert first.stat().st_mtime_ns == written
    assert blocks(tmp_path / "store") == blocks(whole)


def test_a_store_of_another_teacher_is_not_mixed(write, made_up):
    write(made_up)
    with pytest.raises(UserError, match=r"was made with teacher 'made up', but this run has 'another'; use the same"):
        write(made_up, teacher="another")


def changed(change):
    """The words and log-probabilities of sentence 9 after a change."""
    return lambda made_up: [change(*item) if number == 9 else item for number, item in enumerate(made_up)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items[:-1], r"^there are predictions for 19 sentences, but valid of .* has 20; give one pred"),
        (lambda items: [*items, items[0]], r"^there are predictions for more than the 20 sentences of valid of .*"),
        (changed(lambda words, q, _: (words[1:], q[1:])), r"words has shape \[\d+, 3\], not \[\d+, 3\], target tokens"),
        (changed(lambda words, q, _: (words, q[:, :2])), r"log_q has shape \[\d+, 2\], not \[\d+, 3\], target tokens"),
        (changed(lambda words, q, _: (words + 5000, q)), r"words must be integers from 0 to \d+, indices of the targ"),
        (changed(lambda words, q, _: (-words - 1, q)), r"words must be integers from 0 to \d+, indices of the target"),
        (changed(lambda words, q, _: (words.float(), q)), r"words must be integers from 0 to \d+, indices of the tar"),
        (changed(lambda words, q, _: (words * 0, q)), r"a word occurs twice at one position; give different words$"),
        (changed(lambda words, q, _: (words, -q)), r"the probabilities of a position sum to [\d.e+]+; give log-prob"),
        (changed(lambda words, q, _: (words, q * math.nan)), r"the probabilities of a position sum to nan; give log-"),
        (changed(lambda words, q, _: (words, q, q[:, 0] * 0)), r"log_rest must be the log of the mass of all other w"),
    ],
)
def test_predictions_that_do_not_fit_are_named(change, message, write, made_up):
    with pytest.raises(UserError, match=message) as error:
        write(change(made_up))
    assert "sentences" in message or str(error.value).startswith(
        "prediction for sentence 9 (counting from 0) of valid: "
    )


def test_other_data_is_refused(write, made_up, translation):
    folder = write(made_up)
    (folder / "valid").rename(folder / "test")
    with pytest.raises(UserError, match=r"/store/test was made for other data than test of .*; give the data it was "):
        next(read_store(folder, translation, "test"))


def test_a_folder_without_data_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none does not exist; give a folder that fairseq-preprocess wrote"):
        task_of_data(str(tmp_path / "none"))


def test_positions_without_a_prediction_are_marked_and_the_others_kept(write, translation, made_up):
    def some(words, log_q, log_rest):
        words = words.clone()
        words[::2] = -1
        return words, log_q, log_rest

    folder = write(some(*found) for found in made_up)
    for (words, log_q, log_rest), whole in zip(read_store(folder, translation, "valid"), made_up, strict=True):
        assert words[::2].eq(-1).all()
        assert log_q[::2].isnan().all()
        assert log_rest[::2].isnan().all()
        assert words[1::2].equal(whole[0][1::2])
        torch.testing.assert_close(log_q[1::2], whole[1][1::2].float(), rtol=2**-11, atol=0)
        torch.testing.assert_close(log_rest[1::2], whole[2][1::2].float())
