"""Distilling from what the teacher predicted once: what it costs in precision, and who may."""

import logging
import pickle
import shutil

import pytest
import torch
from conftest import train_here

from nmt_kd.caching import teacher as cached_teacher
from nmt_kd.caching.prefetching import CollaterWithPredictions, prefetched
from nmt_kd.caching.reading import TeacherCache
from nmt_kd.caching.teacher import CachedTeacher
from nmt_kd.cli import main
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError, user_error_in

CACHED = {
    "word_kd": ["--criterion", "word_kd"],
    "word_kd temperature": ["--criterion", "word_kd", "--kd-temperature", "2"],
    "selective_kd": ["--criterion", "selective_kd", "--selection", "batch"],
    "tie_kd": ["--criterion", "tie_kd", "--kd-iterations", "1"],
    "probing_kd top-k": ["--criterion", "probing_kd", "--probing-top-k", "3"],
    "probing_kd interval": ["--criterion", "probing_kd", "--probing-loss", "all", "--probing-above", "0.1"],
    "probing_kd targets": ["--criterion", "probing_kd", "--probing-targets", "top-1-information"],
}
TRAINING = ["--label-smoothing", "0.1", "--dropout", "0", "--max-update", "6"]


@pytest.fixture(scope="session")
def make_cache(data, teacher_path, tmp_path_factory):
    def make_cache(top_k):
        out = tmp_path_factory.mktemp("cache") / f"top-{top_k}"
        main(["cache", str(data), "--teacher-path", str(teacher_path), "--top-k", str(top_k), str(out)])
        return out

    return make_cache


@pytest.fixture(scope="session")
def whole_cache(make_cache, task):
    return make_cache(len(task.target_dictionary))


@pytest.fixture(scope="session")
def cache(make_cache):
    return make_cache(8)


@pytest.mark.parametrize("method", CACHED)
def test_a_cache_of_all_words_teaches_what_the_teacher_does(method, data, whole_cache, teacher_path, tmp_path):
    live = train_here(data, tmp_path / "live", *CACHED[method], *TRAINING, "--teacher-path", teacher_path)
    cached = train_here(data, tmp_path / "cached", *CACHED[method], *TRAINING, "--teacher-cache", whole_cache)
    for name in ("loss", "kd_loss", "gnorm"):
        ours, theirs = (run.values("train_inner", name) for run in (cached, live))
        assert ours[0] == pytest.approx(theirs[0], rel=2e-3)  # float16 on disk
        assert ours == pytest.approx(theirs, rel=0.02)  # and what follows from it; a confidence may change intervals
    for name, tolerance in (("valid_kd_loss", 0.02), ("valid_teacher_agreement", 0.02)):
        assert cached.values("valid", name) == pytest.approx(live.values("valid", name), rel=tolerance)


@pytest.mark.parametrize("temperature", [1, 2.5])
def test_the_log_says_that_a_temperature_is_approximate(temperature, build, cache, caplog):
    with caplog.at_level(logging.INFO):
        build("word_kd", "--teacher-path", "", "--teacher-cache", cache, "--kd-temperature", temperature)
    said = "--kd-temperature 2.5 is approximate with --teacher-cache: the teacher's mass outside its cached words is"
    assert (said in caplog.text) == (temperature != 1)


def test_the_teacher_is_not_loaded(data, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(Teacher, "load", None)
    run = train_here(data, tmp_path, *CACHED["word_kd"], *TRAINING, "--teacher-cache", cache)
    losses = run.values("train_inner", "kd_loss")
    assert losses[-1] < losses[0]


def test_a_restart_from_a_cache_gives_the_same_to_the_bit(data, cache, tmp_path):
    flags = [*CACHED["word_kd"], *TRAINING, "--teacher-cache", cache, "--disable-validation"]
    undisturbed = train_here(data, tmp_path / "a", *flags)
    train_here(data, tmp_path / "b", *flags, "--stop-time-hours", "1e-9")
    restarted = train_here(data, tmp_path / "b", *flags)
    assert restarted.values("train_inner", "loss") == undisturbed.values("train_inner", "loss")[1:]


def test_a_subset_to_validate_on_that_is_not_cached_is_missed_before_the_training(data, cache, tmp_path):
    flags = [*CACHED["word_kd"], *TRAINING, "--teacher-cache", cache, "--valid-subset", "valid,test"]
    with pytest.raises(
        UserError, match=r"has no predictions for the subset test; make them with .* --gen-subset test$"
    ):
        train_here(data, tmp_path, *flags)
    assert not list(tmp_path.iterdir())
    assert train_here(data, tmp_path, *flags, "--disable-validation").values("train_inner", "loss")


def test_validation_on_the_training_set_is_possible_with_and_without_the_data_loader(
    data, cache, tmp_path, monkeypatch
):
    flags = [*CACHED["word_kd"], *TRAINING, "--teacher-cache", cache, "--valid-subset", "train,valid"]
    prefetching = train_here(data, tmp_path / "loader", *flags)
    monkeypatch.setattr(cached_teacher, "prefetch", lambda *_: None)
    by_step = train_here(data, tmp_path / "step", *flags)
    assert prefetching.values("train_inner", "loss") == by_step.values("train_inner", "loss")
    validations = [run.statistics["train"][0] for run in (prefetching, by_step)]
    for name in ("train_loss", "train_kd_loss", "train_teacher_agreement"):
        assert validations[0][name] == validations[1][name]
    for name in ("valid_loss", "valid_kd_loss"):
        assert prefetching.values("valid", name) == by_step.values("valid", name)


@pytest.mark.parametrize("with_loader", [True, False])
def test_the_subset_to_train_on_may_have_another_name(data, cache, tmp_path, monkeypatch, with_loader):
    for folder, name in ((data, "data"), (cache, "cache")):
        shutil.copytree(folder, tmp_path / name)
    for file in (tmp_path / "data").glob("train.*"):
        file.rename(file.with_name(file.name.replace("train", "chosen")))
    (tmp_path / "cache/train").rename(tmp_path / "cache/chosen")
    if not with_loader:
        monkeypatch.setattr(cached_teacher, "prefetch", lambda *_: None)
    usual = train_here(data, tmp_path / "usual", *CACHED["word_kd"], *TRAINING, "--teacher-cache", cache)
    flags = ["--teacher-cache", tmp_path / "cache", "--train-subset", "chosen"]
    chosen = train_here(tmp_path / "data", tmp_path / "run", *CACHED["word_kd"], *TRAINING, *flags)
    assert chosen.values("train_inner", "loss") == usual.values("train_inner", "loss")
    assert chosen.values("valid", "valid_kd_loss") == usual.values("valid", "valid_kd_loss")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--criterion", "tie_kd"],
            "tie_kd with these settings needs the teacher itself, not only its top words; give --teacher-path instead "
            "of --teacher-cache, or keep the cache and add --kd-iterations 1$",
        ),
        (["--criterion", "annealing_kd"], "annealing_kd with .* instead of --teacher-cache$"),
        (["--criterion", "ckd"], "ckd with these settings needs the teacher itself, .* instead of --teacher-cache$"),
        (["--criterion", "probing_kd", "--probing-loss", "no-top-1"], "probing_kd with these settings needs the teach"),
        (
            ["--criterion", "tie_kd", "--kd-iterations", "1", "--ranking-top-k", "9"],
            "has only the teacher's top 8 words",
        ),
        (["--criterion", "word_kd", "--teacher-path", "t.pt"], "--teacher-cache replaces --teacher-path"),
    ],
)
def test_who_needs_more_than_the_cache_is_told_so_at_once(data, cache, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        train_here(data, tmp_path, *flags, *TRAINING, "--teacher-cache", cache)


def test_the_data_loader_looks_up_what_a_step_would(data, cache, tmp_path, monkeypatch):
    """In its workers or not, also with --fp16, which halves all numbers of a batch; and so that no step has to."""
    half = ["--fp16", "--fp16-no-flatten-grads"]
    flags = [*CACHED["word_kd"], *TRAINING, "--teacher-cache", cache]
    runs = {}
    for name, added in (("float32", []), ("half", half), ("workers", ["--num-workers", "2"])):
        with monkeypatch.context() as context:
            context.setattr(CachedTeacher, "read", in_the_sample)
            runs[name] = train_here(data, tmp_path / name, *flags, *added)
    monkeypatch.setattr(cached_teacher, "prefetch", lambda *_: None)
    runs["by step"] = train_here(data, tmp_path / "step", *flags)
    runs["half by step"] = train_here(data, tmp_path / "half-step", *flags, *half)
    for one, other in (("float32", "by step"), ("workers", "by step"), ("half", "half by step")):
        for logger in ("train_inner", "valid"):
            assert set(runs[one].statistics[logger][0]) == set(runs[other].statistics[logger][0])
        assert runs[one].values("train_inner", "loss") == runs[other].values("train_inner", "loss")
        for name in ("valid_loss", "valid_kd_loss", "valid_teacher_agreement"):
            assert runs[one].values("valid", name) == runs[other].values("valid", name)


read = CachedTeacher.read


def in_the_sample(self, sample, token_index, like):
    """Read predictions that must be in the sample."""
    assert prefetched(sample, self.cache) is not None
    return read(self, sample, token_index, like)


def test_a_worker_of_the_data_loader_reports_wrong_input_in_one_line(data, cache, tmp_path):
    own = tmp_path / "cache"
    shutil.copytree(cache, own)
    (block,) = own.glob("train/*.safetensors")
    content = bytearray(block.read_bytes())
    content[-1] ^= 1
    block.write_bytes(content)
    flags = [*CACHED["word_kd"], *TRAINING, "--teacher-cache", own, "--num-workers", "1", "--disable-validation"]
    with pytest.raises(UserError) as error:
        train_here(data, tmp_path / "run", *flags)
    assert user_error_in(error.value).startswith(f"{block} is damaged; rerun nmt-kd cache")
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_what_the_data_loader_needs_reaches_workers_that_are_not_forked(cache, task):
    task.load_dataset("train")
    dataset = task.dataset("train")
    opened = TeacherCache.open(str(cache), task)
    made = CollaterWithPredictions(dataset.collater, opened, True)
    items = [dataset[number] for number in range(3)]
    expected = made(items)
    (key,) = set(expected) - set(dataset.collater(items))
    copied = pickle.loads(pickle.dumps(made))
    torch.testing.assert_close(copied(items)[key], expected[key], rtol=0, atol=0)


def test_batches_of_several_language_pairs_are_left_to_the_training_step(cache, task):
    nested = {"de-en": {"net_input": {}}, "fr-en": {"net_input": {}}}
    made = CollaterWithPredictions(lambda items: nested, TeacherCache.open(str(cache), task), True)
    assert made([]) is nested
