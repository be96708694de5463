import copy
import errno
import itertools
import json
import logging
import math
import os
import random
import re
import shutil
import signal
import time
import tracemalloc
from pathlib import Path

import numpy
import pytest
import torch
from conftest import train_here
from fairseq import checkpoint_utils
from near_ties import A_TOKEN
from worker import Worker

from nmt_kd.caching import building
from nmt_kd.caching.building import build_cache
from nmt_kd.caching.files import Block, Positions, SubsetFolder, usual_block_sentences
from nmt_kd.caching.reading import TeacherCache, _Subset
from nmt_kd.caching.sentences import Sentences, sentence_checksums
from nmt_kd.caching.sources import checkpoint
from nmt_kd.checkpoints.reading import read_checkpoint_file
from nmt_kd.cli import main
from nmt_kd.engine.teacher import Teacher, file_hash
from nmt_kd.errors import UserError
from nmt_kd.storage import atomic, tensors

SUBSETS = ["train", "valid", "test"]
HALF = 2**-11  # relative precision of float16


def build(out, data, teacher_path, top_k=8, subsets=("train", "valid"), block_sentences=64, **arguments):
    task, source = checkpoint.open_source(str(data), str(teacher_path), checkpoint.Options())
    build_cache(task, source, out, top_k, subsets, block_sentences=block_sentences, **arguments)
    return out


def contents(out):
    """Everything in the folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def batch(task, subset, numbers):
    task.load_dataset(subset)
    dataset = task.dataset(subset)
    return dataset.collater([dataset[number] for number in numbers])


def slow_form(task, paths, source, target):
    """The distributions at the positions of one sentence, [length, V] in plain lists, a prefix of the target each."""
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(path) for path in paths], task=task)
    rows = []
    for length in range(len(target)):
        prefix = torch.cat([target[-1:], target[:length]]).unsqueeze(0)
        members = []
        for model in models:
            with torch.no_grad():
                logits = model.eval()(source.unsqueeze(0), torch.tensor([len(source)]), prefix)[0][0, -1].tolist()
            total = sum(math.exp(logit) for logit in logits)
            members.append([math.exp(logit) / total for logit in logits])
        rows.append([sum(probabilities) / len(models) for probabilities in zip(*members, strict=True)])
    return rows


def top(cache, sample, training) -> tuple[torch.Tensor, ...]:
    """The predictions of a cache for fairseq's sample."""
    return cache.look_up(cache.sentences_of(sample), training).unpacked()


@pytest.fixture(scope="module")
def built(data, teacher_path, tmp_path_factory):
    return build(tmp_path_factory.mktemp("cache") / "out", data, teacher_path, subsets=SUBSETS)


@pytest.fixture
def cache(built, task):
    return TeacherCache.open(str(built), task)


@pytest.fixture
def own(built, tmp_path):
    """A copy that a test may spoil."""
    for name, content in contents(built).items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "own"


@pytest.fixture(scope="module")
def other_teacher(teacher_path, tmp_path_factory):
    state = read_checkpoint_file(teacher_path)
    torch.manual_seed(3)
    for name, value in state["model"].items():
        if value.is_floating_point() and name.endswith("weight"):
            state["model"][name] = value + 0.05 * torch.randn_like(value)
    path = tmp_path_factory.mktemp("other") / "other.pt"
    torch.save(state, path)
    return path


# -- what is in it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ensemble", [False, True])
def test_words_log_probabilities_and_rest_are_those_of_the_teacher(
    ensemble, built, data, task, teacher_path, other_teacher, tmp_path
):
    paths = [teacher_path, other_teacher] if ensemble else [teacher_path]
    out = built
    if ensemble:
        out = build(tmp_path / "out", data, ":".join(map(str, paths)), subsets=["test"])
    cache = TeacherCache.open(str(out), task)
    assert cache.top_k == 8
    assert cache.fingerprint == "+".join(file_hash(path) for path in paths)
    sample = batch(task, "test", [3, 12, 0])
    words, log_q, rest = top(cache, sample, training=False)
    assert (words.dtype, log_q.dtype, rest.dtype) == (torch.int64, torch.float32, torch.float32)
    assert words.shape == log_q.shape == (*sample["target"].shape, 8)
    assert rest.shape == sample["target"].shape
    for row, number in enumerate(sample["id"].tolist()):
        item = task.dataset("test")[number]
        for position, q in enumerate(slow_form(task, paths, item["source"], item["target"])):
            ranking = sorted(range(len(q)), key=lambda word: (-q[word], word))
            found, expected = ([math.log(q[word]) for word in top] for top in (words[row, position], ranking[:8]))
            assert len(set(words[row, position].tolist())) == 8
            assert found == pytest.approx(expected, rel=0, abs=A_TOKEN)  # words may swap if they are nearly tied
            assert log_q[row, position].tolist() == pytest.approx(expected, rel=HALF, abs=1e-5)
            assert rest[row, position].item() == pytest.approx(math.log(sum(q[word] for word in ranking[8:])), abs=1e-4)
        assert words[row, len(item["target"]) :].eq(0).all()
        assert log_q[row, len(item["target"]) :].eq(0).all()
        assert rest[row, len(item["target"]) :].eq(0).all()


def test_several_training_sets_are_one(data, teacher_path, built, tmp_path):
    several = tmp_path / "data-bin"
    shutil.copytree(data, several)
    for file in data.glob("test.*"):
        shutil.copy(file, several / file.name.replace("test.", "train1."))
    out = build(tmp_path / "out", several, teacher_path, subsets=("train",))
    flags = ["--criterion", "word_kd", "--teacher-cache", out, "--max-update", "1", "--disable-validation", "--no-save"]
    run = train_here(several, tmp_path / "run", *flags, "--upsample-primary", "1")
    assert run.values("train_inner", "num_updates") == [1]
    sizes = [json.loads((folder / "train/manifest.json").read_text())["sentences"] for folder in (out, built)]
    assert sizes[0] > sizes[1]


def test_all_words_leave_no_rest(data, task, teacher_path, tmp_path):
    size = len(task.target_dictionary)
    out = build(tmp_path, data, teacher_path, top_k=size, subsets=["valid"])
    sample = batch(task, "valid", range(4))
    words, log_q, rest = top(TeacherCache.open(str(out), task), sample, training=False)
    kept = sample["target"].ne(task.target_dictionary.pad())
    assert words[kept].sort(-1).values.eq(torch.arange(size)).all()
    assert log_q[kept].diff(dim=-1).le(0).all()
    assert log_q[kept].exp().sum(-1) == pytest.approx(1, abs=1e-3)
    assert rest[kept].eq(-math.inf).all()


@pytest.mark.parametrize(("subset", "training"), [("train", True), ("valid", False), ("test", False)])
def test_batches_come_in_any_order_and_shape(subset, training, cache, task):
    numbers = list(range(13)) if subset != "train" else [599, 0, 64, 63, 127, 128, 300, 17, 299, 64]
    alone = {}
    for number in numbers:
        alone[number] = top(cache, batch(task, subset, [number]), training)
    random.Random(1).shuffle(numbers)
    sample = batch(task, subset, numbers)
    together = top(cache, sample, training)
    for row, number in enumerate(sample["id"].tolist()):
        for ours, theirs in zip(together, alone[number], strict=True):
            length = theirs.size(1)
            assert ours[row, :length].equal(theirs[0])
            assert ours[row, length:].eq(0).all()


def test_padding_may_be_on_either_side(cache, task):
    sample = batch(task, "train", [5, 80, 200, 201])
    pad = task.target_dictionary.pad()

    def on_the_other_side(tokens, left):
        rows = ((row[row == pad], row[row != pad]) for row in tokens)
        return torch.stack([torch.cat(parts if left else parts[::-1]) for parts in rows])

    source = on_the_other_side(sample["net_input"]["src_tokens"], left=False)
    target = on_the_other_side(sample["target"], left=True)
    assert not source.equal(sample["net_input"]["src_tokens"])
    assert not target.equal(sample["target"])
    other = {"id": sample["id"], "net_input": {"src_tokens": source}, "target": target}
    for ours, theirs in zip(top(cache, other, True), top(cache, sample, True), strict=True):
        assert ours[target.ne(pad)].equal(theirs[sample["target"].ne(pad)])


def test_the_training_set_is_not_looked_for_in_validation(cache, task):
    sample = batch(task, "train", [20, 21])
    with pytest.raises(
        UserError, match=r"^sentence 2\d \(counting from 0\) differs from the one cached in .* for test or valid: "
    ):
        top(cache, sample, training=False)


# -- how it is made ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(workers, built, data, teacher_path, tmp_path):
    for worker in reversed(range(workers)):
        build(tmp_path / "out", data, teacher_path, subsets=SUBSETS, worker=worker, workers=workers)
    assert contents(tmp_path / "out") == contents(built)


def test_what_is_complete_is_not_computed_again(own, built, data, teacher_path, monkeypatch):
    computed = []
    block = building._Builder.block
    monkeypatch.setattr(
        building._Builder,
        "block",
        lambda self, dataset, numbers, progress: (
            computed.append(numbers.start) or block(self, dataset, numbers, progress)
        ),
    )
    build(own, data, teacher_path, subsets=SUBSETS)
    assert computed == []
    (own / "train/0000003.safetensors").unlink()
    damaged = own / "train/0000005.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (own / "train/0000003.safetensors.partial.1").write_bytes(b"of a worker that was killed")
    build(own, data, teacher_path, subsets=SUBSETS)
    assert computed == [192, 320]
    aside = damaged.with_suffix(".damaged")
    assert aside.read_bytes() == contents(built)["train/0000005.safetensors"][:-1]
    aside.unlink()
    assert contents(own) == contents(built)


def complete(out):
    return len(list(out.glob("*/*.safetensors")))


def test_after_workers_are_killed_at_any_moment_others_resume(data, teacher_path, built, tmp_path):
    out, moments = tmp_path / "out", random.Random(4)
    for workers in (2, 3):
        before = complete(out)
        started = [
            Worker(
                lambda worker=worker, workers=workers: build(
                    out, data, teacher_path, subsets=SUBSETS, worker=worker, workers=workers
                ),
                [],
                tmp_path / "log",
            )
            for worker in range(workers)
        ]
        while complete(out) == before and any(worker.process.is_alive() for worker in started):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))
        for worker in started:
            worker.kill()
        assert before < complete(out) < complete(built) or workers == 3  # the second time they may have finished
    build(out, data, teacher_path, subsets=SUBSETS)
    assert contents(out) == contents(built)


def test_after_a_worker_is_killed_while_it_writes_others_resume(data, teacher_path, built, tmp_path):
    out = tmp_path / "out"

    def killed_at(moment):
        calls = itertools.count(1)
        atomic.os.fsync = lambda descriptor: next(calls) == moment and os.kill(os.getpid(), signal.SIGKILL)
        build(out, data, teacher_path, subsets=SUBSETS)

    # each run writes the manifests of all and of train, then blocks
    for moment, blocks in ((1, 0), (2, 0), (3, 0), (5, 2)):
        worker = Worker(lambda moment=moment: killed_at(moment), [], tmp_path / "log")
        worker.process.join()
        assert worker.process.exitcode == -signal.SIGKILL
        assert complete(out) == blocks
    assert list(out.glob("train/*.partial.*"))  # of workers that may be alive, until all blocks are complete
    build(out, data, teacher_path, subsets=SUBSETS)
    assert contents(out) == contents(built)


def test_blocks_are_few():
    assert usual_block_sentences(13) == 1000
    assert usual_block_sentences(4_500_000) == 22_500


def test_the_command_reports_its_progress(data, task, teacher_path, tmp_path, capsys):
    command = ["cache", str(data), "--teacher-path", str(teacher_path), "--top-k", "3", str(tmp_path / "out")]
    main([*command, "--gen-subset", "valid", "test"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "valid: worker 1 of 1: 1 of 1 blocks to compute" in captured.err
    assert re.search(r"valid: 20 of 20 sentences, [\d,.]+ sentences/s, 0.0 min left", captured.err)
    assert f"test: all blocks are in {tmp_path / 'out' / 'test'}" in captured.err
    words, _, _ = top(TeacherCache.open(str(tmp_path / "out"), task), batch(task, "test", [1]), training=False)
    assert words.size(-1) == 3


def test_the_manifest_says_what_it_was_made_with(built, task):
    settings = json.loads((built / "manifest.json").read_text())
    assert settings["words"] == "uint16"
    assert settings["languages"] == "en-de"
    assert settings["vocabulary_size"] == len(task.target_dictionary)
    subset = json.loads((built / "train/manifest.json").read_text())
    assert (subset["sentences"], subset["block_sentences"]) == (600, 64)


# -- the file ---------------------------------------------------------------------------------------------------------


def made_up(vocabulary_size, top_k, lengths, first=0):
    """A block of random predictions and the sentences that they are for."""
    generator = numpy.random.default_rng(5)
    total = sum(lengths)
    words = generator.integers(0, vocabulary_size, (total, top_k))
    words[-1, -1] = vocabulary_size - 1
    positions = Positions.of(words, -generator.random((total, top_k)), -generator.random(total), vocabulary_size)
    checksums = generator.integers(0, 2**32, len(lengths)).tolist()
    ends = numpy.cumsum(lengths)
    pieces = [positions.rows(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    sentences = Sentences(list(range(first, first + len(lengths))), checksums, list(lengths), numpy.array([]))
    return Block.of(first, checksums, pieces), sentences


@pytest.mark.parametrize(
    ("vocabulary_size", "top_k", "size"),
    [(2**16, 8, 36), (2**16 + 1, 8, 52), (200_000, 3, 22), (300, 1, 8)],
    ids=["as many as two bytes can name", "one more", "odd", "one word"],
)
def test_words_take_two_bytes_or_four(vocabulary_size, top_k, size, tmp_path):
    lengths = [3, 0, 7, 1]
    block, sentences = made_up(vocabulary_size, top_k, lengths)
    folder = SubsetFolder(tmp_path, len(lengths), 10, top_k, vocabulary_size)
    folder.write(0, block)
    assert folder.missing([0]) == []
    content = folder.path(0).read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert len(content) == header + 8 + 8 + 12 * 4 + size * 11
    subset = _Subset(folder)
    assert subset.first_unlike(sentences) is None
    found = subset.positions(sentences)
    assert equal(found, block.positions)
    assert found.words.max() == vocabulary_size - 1


def equal(ours, theirs):
    """Whether two `Positions` are the same to the bit."""
    return all(
        (kind := getattr(ours, name)).dtype == getattr(theirs, name).dtype and (kind == getattr(theirs, name)).all()
        for name in ("words", "log_q", "log_rest")
    )


def test_a_block_is_mapped_and_not_read_whole(tmp_path):
    lengths = [100] * 2000
    block, sentences = made_up(30_000, 20, lengths)
    folder = SubsetFolder(tmp_path, len(lengths), len(lengths), 20, 30_000)
    folder.write(0, block)
    some = Sentences(*(part[1500:1503] for part in (sentences.numbers, sentences.checksums, sentences.lengths)), None)
    assert folder.path(0).stat().st_size > 16_000_000
    tracemalloc.start()
    subset = _Subset(folder)
    assert subset.first_unlike(some) is None
    assert equal(subset.positions(some), block.positions.rows(150_000, 150_300))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_500_000  # what the checksum is computed from at once
    assert str(folder.path(0)) in Path("/proc/self/maps").read_text()


def test_few_files_are_open_at_once(monkeypatch, built, task):
    monkeypatch.setattr("nmt_kd.caching.reading.OPEN_BLOCKS", 2)
    checks = []
    crc = tensors.crc_of
    monkeypatch.setattr(tensors, "crc_of", lambda path: checks.append(path.name) or crc(path))
    cache = TeacherCache.open(str(built), task)
    sample = batch(task, "train", [0, 100, 200, 300, 599])
    first, again = top(cache, sample, True), top(cache, sample, True)
    assert all(ours.equal(theirs) for ours, theirs in zip(first, again, strict=True))
    assert len(cache._subsets["train"]._open) == 2
    assert len(checks) == 5  # each once


def test_checksums_know_the_tokens_of_both_sides_and_no_padding():
    def checksum(source, target):
        return sentence_checksums(numpy.array([source]), numpy.array([target]), (1, 1))

    usual = checksum([5, 6, 2], [7, 2])
    assert checksum([1, 1, 5, 6, 2], [7, 2, 1]) == usual
    for source, target in (([6, 5, 2], [7, 2]), ([5, 6, 2], [8, 2]), ([6, 2], [7, 2]), ([5, 6, 2], [7, 7, 2])):
        assert checksum(source, target) != usual


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-20],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-3000] + bytes([content[-3000] ^ 1]) + content[-2999:],
        lambda content: content[:60] + bytes([content[60] ^ 16]) + content[61:],
        lambda content: content[:9] + bytes([content[9] ^ 1]) + content[10:],
        lambda content: content[:40] + bytes([255] * 8) + content[48:],
        lambda content: content + b"x",
        lambda content: b"x" + content[1:],
        lambda content: b"",
    ],
    ids=["end cut off", "half", "changed", "offset", "checksum", "length", "garbage behind", "another file", "empty"],
)
def test_a_damaged_block_is_named(damage, own, task):
    path = own / "train/0000002.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    cache = TeacherCache.open(str(own), task)
    top(cache, batch(task, "train", [100, 3]), training=True)
    with pytest.raises(UserError) as error:
        top(cache, batch(task, "train", [100, 130]), training=True)
    assert str(error.value) == f"{path} is damaged; rerun nmt-kd cache to compute it again"


def test_a_block_of_other_sentences_is_damaged(own, task):
    (own / "train/0000002.safetensors").write_bytes((own / "train/0000001.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"0000002.safetensors is damaged; rerun"):
        top(TeacherCache.open(str(own), task), batch(task, "train", [130]), training=True)


def test_a_missing_block_is_reported_before_it_is_needed(own, task):
    (own / "train/0000002.safetensors").unlink()
    (own / "train/0000007.safetensors").unlink()
    cache = TeacherCache.open(str(own), task)
    with pytest.raises(UserError, match=r"/train lacks 2 of its 10 files; rerun nmt-kd cache to compute them"):
        top(cache, batch(task, "train", [1]), training=True)
    top(cache, batch(task, "valid", [1]), training=False)


def test_a_block_that_goes_missing_is_named(own, task):
    cache = TeacherCache.open(str(own), task)
    top(cache, batch(task, "train", [1]), training=True)
    (own / "train/0000002.safetensors").unlink()
    with pytest.raises(UserError, match=r"0000002.safetensors is missing; rerun nmt-kd cache to compute it"):
        top(cache, batch(task, "train", [130]), training=True)


def test_an_unfinished_subset_matters_only_where_it_is_needed(own, task):
    (own / "test/0000000.safetensors").unlink()
    cache = TeacherCache.open(str(own), task)
    top(cache, batch(task, "valid", [1]), training=False)
    with pytest.raises(UserError, match=r"/test lacks 1 of its 1 files"):
        top(cache, batch(task, "test", [1]), training=False)


@pytest.mark.parametrize(("training", "subset"), [(True, "train"), (False, "valid")])
def test_a_subset_that_was_not_cached_is_named_with_its_command(training, subset, own, task, data):
    for name in contents(own):
        if "/" in name and not (training and name.startswith("valid")) and not (not training and "train" in name):
            (own / name).unlink()
    command = f"make them with nmt-kd cache {data} --teacher-path TEACHER --top-k 8 {own} --gen-subset {subset}"
    with pytest.raises(UserError, match=re.escape(command)):
        top(TeacherCache.open(str(own), task), batch(task, subset, [1]), training)


def change_target(sample):
    sample["target"][1, 2] += 1


def change_source(sample):
    sample["net_input"]["src_tokens"][1, -2] += 1


def change_order(sample):
    sample["id"] = sample["id"].flip(0)


def number_too_high(sample):
    sample["id"] = sample["id"] + 590


def cut_source(sample):
    sample["net_input"]["src_tokens"] = sample["net_input"]["src_tokens"][:, 1:]


@pytest.mark.parametrize("change", [change_target, change_source, change_order, number_too_high, cut_source])
def test_other_sentences_are_refused(change, cache, task):
    sample = batch(task, "train", [10, 11, 12])
    top(cache, sample, training=True)
    change(sample)
    line = r"^sentence \d+ \(counting from 0\) differs from the one cached in .*/out for train: the data is different"
    with pytest.raises(UserError, match=line):
        top(cache, sample, training=True)


@pytest.mark.parametrize("side", ["source", "target"])
def test_other_dictionaries_are_refused(side, built, task):
    other = copy.copy(task)
    name = {"source": "src_dict", "target": "tgt_dict"}[side]
    setattr(other, name, copy.deepcopy(getattr(task, name)))
    getattr(other, name).add_symbol("▁another")
    with pytest.raises(
        UserError, match=rf"was made with another {side} dictionary \(checksum \w+\) than that of .* \(\w+\)"
    ):
        TeacherCache.open(str(built), other)


def test_a_folder_that_is_none_is_named(tmp_path, task):
    with pytest.raises(UserError, match=r"contains no predictions of a teacher \(no manifest.json\); run nmt"):
        TeacherCache.open(str(tmp_path / "none"), task)


def test_another_kind_of_folder_is_told_apart(own, task, data, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "manifest.json").write_text('{"teacher": "1c2e"}')
    command = "nmt-kd cache DATA --teacher-path TEACHER --top-k K FOLDER"
    for folder, kind in (
        (tmp_path, "a folder of decoded sentences"),
        (own / "train", "one subset of a cache"),
        (data, "a folder of binarised data"),
    ):
        with pytest.raises(UserError) as error:
            TeacherCache.open(str(folder), task)
        what = f"{folder} is {kind}, not a cache of a teacher's predictions"
        assert str(error.value) == f"{what}; give a folder that this command writes: {command}"


@pytest.mark.parametrize("other", [1, 7])
def test_another_format_is_refused(other, own, task):
    manifest = own / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', f'"format": {other}'))
    with pytest.raises(
        UserError, match=rf"has predictions in format {other}, but this version of nmt-kd reads format 2; make"
    ):
        TeacherCache.open(str(own), task)


def test_a_damaged_manifest_is_named(own, task):
    (own / "manifest.json").write_text('{"format":')
    with pytest.raises(UserError, match=r"manifest.json is damaged; delete it and rerun the same command"):
        TeacherCache.open(str(own), task)


def test_a_cache_of_another_teacher_is_not_resumed(built, data, teacher_path, other_teacher):
    hashes = f"'{file_hash(teacher_path)}', but this run has '{file_hash(other_teacher)}'"
    with pytest.raises(UserError, match=f"was made with teacher {hashes}; use the same settings to resume, or another"):
        build(built, data, other_teacher)


def test_a_cache_of_other_data_or_settings_is_not_resumed(own, data, teacher_path):
    with pytest.raises(UserError, match=r"was made with top_k 8, but this run has 4; use the same settings to resume"):
        build(own, data, teacher_path, top_k=4)
    with pytest.raises(
        UserError, match=r"/train was made with block_sentences 64, but this run has 32; use the same set"
    ):
        build(own, data, teacher_path, block_sentences=32)
    manifest = own / "train/manifest.json"
    manifest.write_text(re.sub(r'"data": "\w+"', '"data": "00000000"', manifest.read_text()))
    with pytest.raises(
        UserError, match=r"/train was made with data '00000000', but this run has '\w{8}'; use the same"
    ):
        build(own, data, teacher_path)


def test_another_version_of_the_package_resumes(own, data, teacher_path):
    manifest = own / "manifest.json"
    manifest.write_text(re.sub(r'"nmt_kd": "[^"]+"', '"nmt_kd": "0.0.1"', manifest.read_text()))
    build(own, data, teacher_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 0}, r"^--top-k is 0; it must be from 1 to \d+, the size of the vocabulary$"),
        ({"top_k": 5000}, r"^--top-k is 5000; it must be from 1 to \d+, the size of the vocabulary$"),
        ({"max_tokens": 0}, r"^--max-tokens is 0; it must be 1 or more$"),
        ({"workers": 0}, r"^--num-shards is 0; it must be 1 or more$"),
        ({"worker": 3, "workers": 3}, r"^--shard-id is 3; it must be from 0 to 2, since --num-shards is 3$"),
        ({"worker": -1}, r"^--shard-id is -1; it must be from 0 to 0, since --num-shards is 1$"),
        (
            {"subsets": ["none"]},
            r"^.*data-bin has no none.en-de; it has test, train, valid: choose with --gen-subset, ",
        ),
    ],
)
def test_wrong_settings_are_named(arguments, message, data, teacher_path, tmp_path):
    with pytest.raises(UserError, match=message):
        build(tmp_path / "out", data, teacher_path, **arguments)
    assert not (tmp_path / "out").exists()


def test_several_folders_of_data_are_refused(data, teacher_path, tmp_path):
    with pytest.raises(UserError, match=r"names several folders, but nmt-kd cache takes one"):
        build(tmp_path / "out", f"{data}:{data}", teacher_path)


def test_sentences_that_the_teacher_cannot_read_stay_without_predictions(
    built, task, data, teacher_path, tmp_path, monkeypatch, caplog
):
    task.load_dataset("train")
    lengths = task.dataset("train").tgt_sizes
    longest = int(numpy.median(lengths))
    short, long = numpy.flatnonzero(lengths <= longest)[:5], numpy.flatnonzero(lengths > longest)
    monkeypatch.setattr(Teacher, "max_positions", lambda self: (1024, longest))
    with caplog.at_level(logging.WARNING):
        out = build(tmp_path / "out", data, teacher_path, subsets=["train"])
    assert 0 < len(long) < len(lengths)
    assert f"train: {len(long)} sentences are longer than the teacher's 1024 and {longest} positions" in caplog.text
    ours, whole = (TeacherCache.open(str(folder), task) for folder in (out, built))
    sample = batch(task, "train", short)
    for part, expected in zip(top(ours, sample, True), top(whole, sample, True), strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-3, atol=1e-3)  # other batches, so other last bits
    with pytest.raises(
        UserError, match=rf"^sentence {long[0]} .* has no predictions in .*/train because it is too long"
    ):
        top(ours, batch(task, "train", long[:1]), True)
    assert contents(build(out, data, teacher_path, subsets=["train"])) == contents(out)


def test_half_precision_changes_only_the_last_bits(built, data, teacher_path, tmp_path, task, monkeypatch):
    seen = []
    read = Teacher.read
    monkeypatch.setattr(Teacher, "read", lambda *args: seen.append(args[-1].dtype) or read(*args))
    flags = ["--teacher-path", str(teacher_path), "--gen-subset", "valid", "--fp16"]
    main(["cache", str(data), *flags, str(tmp_path / "half")])
    assert set(seen) == {torch.float16}
    sample = batch(task, "valid", range(20))
    half, whole = (top(TeacherCache.open(str(out), task), sample, False) for out in (tmp_path / "half", built))
    torch.testing.assert_close(half[1], whole[1], rtol=0, atol=0.02)
    assert not torch.equal(half[2], whole[2])
    torch.testing.assert_close(half[2], whole[2], rtol=0, atol=0.02)


def test_a_teacher_that_says_nothing_is_refused(data, teacher_path, tmp_path):
    state = read_checkpoint_file(teacher_path)
    state["model"]["decoder.layers.0.fc2.bias"].fill_(math.nan)
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(
        UserError, match=r"^teacher .*/nan.pt has NaN or infinity in decoder.layers.0.fc2.bias, so its tr"
    ):
        build(tmp_path / "out", data, tmp_path / "nan.pt", subsets=["valid"])


def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing_half_written(
    own, built, data, teacher_path, monkeypatch
):
    (own / "train/0000004.safetensors").unlink()

    def full(descriptor):
        if any(own.glob("train/*.safetensors.partial.*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(UserError, match=r"^cannot write .*/0000004.safetensors: No space left on device; free some"):
        build(own, data, teacher_path)
    assert contents(own) == {name: content for name, content in contents(built).items() if "4.safetensors" not in name}


def test_a_folder_that_cannot_be_written_is_named(data, teacher_path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^cannot create .*/file/out: Not a directory; choose a folder that can be"):
        build(tmp_path / "file/out", data, teacher_path)
