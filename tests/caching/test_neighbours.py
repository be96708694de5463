"""Predictions of the nearest neighbours in a datastore, from the command to the student."""

import itertools
import json
import logging
import os
import re
import signal
from functools import partial

import numpy
import pytest
import torch
from conftest import train_here
from worker import Worker

from nmt_kd.caching.building import build_cache
from nmt_kd.caching.neighbours.datastore import Datastore, build_datastore
from nmt_kd.caching.neighbours.keys import KeyReader
from nmt_kd.caching.neighbours.opening import SearchOptions, open_finder
from nmt_kd.caching.neighbours.stored import build_neighbours
from nmt_kd.caching.sources import checkpoint, knn
from nmt_kd.caching.store import read_store
from nmt_kd.checkpoints.reading import read_checkpoint_file
from nmt_kd.cli import main
from nmt_kd.engine.loading import load_model
from nmt_kd.engine.teacher import file_hash
from nmt_kd.errors import UserError
from nmt_kd.storage import atomic

K = 5


def contents(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def make_datastore(data, teacher_path, out, **arguments):
    task, base = checkpoint.open_source(str(data), str(teacher_path), checkpoint.Options())
    arguments = {"subset": "valid", "block_sentences": 6, **arguments}
    build_datastore(task, KeyReader(base, str(teacher_path)), out, **arguments)
    return out


def open_source(data, teacher_path, **options):
    return knn.open_source(str(data), str(teacher_path), knn.Options(knn_k=K, **options))


def make_cache(data, teacher_path, out, subsets=("valid", "test"), top_k=K, worker=0, workers=1, **options):
    task, source = open_source(data, teacher_path, **options)
    arguments = {"block_sentences": 6, "worker": worker, "workers": workers}
    build_cache(task, source, out, top_k, list(subsets), **arguments)
    return out


@pytest.fixture(scope="module")
def datastore(data, teacher_path, tmp_path_factory):
    return make_datastore(data, teacher_path, tmp_path_factory.mktemp("datastore") / "out")


@pytest.fixture(scope="module")
def cache(data, teacher_path, datastore, tmp_path_factory):
    return make_cache(data, teacher_path, tmp_path_factory.mktemp("cache") / "out", knn_datastore=str(datastore))


def make_neighbours(data, teacher_path, datastore, out):
    """A folder of neighbours, more than `K`."""
    task, base = checkpoint.open_source(str(data), str(teacher_path), checkpoint.Options())
    finder = open_finder(task, base, str(teacher_path), SearchOptions(str(datastore), K + 3))
    build_neighbours(task, finder, out, ["valid", "test"], block_sentences=6)
    return out


@pytest.fixture(scope="module")
def neighbours(data, teacher_path, datastore, tmp_path_factory):
    return make_neighbours(data, teacher_path, datastore, tmp_path_factory.mktemp("neighbours") / "out")


# -- the datastore ----------------------------------------------------------------------------------------------------


def keys_of(model, item, pre_norm):
    """The input of the last feed-forward block at each position of a sentence, step by step, one prefix each."""
    rows, layer = [], model.decoder.layers[-1]
    for length in range(len(item["target"])):
        prefix = torch.cat([item["target"][-1:], item["target"][:length]]).unsqueeze(0)
        norm = layer.final_layer_norm if pre_norm else layer.encoder_attn_layer_norm
        outputs = []
        hook = norm.register_forward_hook(lambda module, inputs, output, outputs=outputs: outputs.append(output))
        with torch.no_grad():
            model(item["source"].unsqueeze(0), torch.tensor([len(item["source"])]), prefix)
        hook.remove()
        (output,) = outputs
        rows.append(output[-1, 0])
    return torch.stack(rows)


@pytest.fixture(scope="module")
def pre_norm_model(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pre-norm")
    norms = ["--encoder-normalize-before", "--decoder-normalize-before", "--decoder-layers", "2"]
    train_here(data, folder, "--criterion", "label_smoothed_cross_entropy", "--max-update", "3", *norms)
    return folder / "checkpoint_last.pt"


@pytest.mark.parametrize("pre_norm", [False, True])
def test_keys_are_what_the_last_feed_forward_block_reads(pre_norm, task, data, teacher_path, pre_norm_model, tmp_path):
    path = pre_norm_model if pre_norm else teacher_path
    out = make_datastore(data, path, tmp_path / "out", subset="test", block_sentences=5)
    found = Datastore.open(str(out), task, file_hash(path), str(path))
    task.load_dataset("test")
    model = load_model(path, task).eval()
    assert len(found.entries) == sum(task.dataset("test").tgt_sizes)
    for number in (0, 7, 12):
        item, entries = task.dataset("test")[number], found.entries.of_sentences([number])
        assert found.entries.at("tokens", entries).tolist() == item["target"].tolist()
        keys = found.entries.at("keys", entries)
        assert keys.dtype == numpy.float16
        torch.testing.assert_close(
            torch.from_numpy(keys).float(), keys_of(model, item, pre_norm), rtol=2**-10, atol=1e-3
        )


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_writes_the_same_datastore(workers, datastore, data, teacher_path, tmp_path):
    for worker in reversed(range(workers)):
        make_datastore(data, teacher_path, tmp_path / "out", worker=worker, workers=workers)
    assert contents(tmp_path / "out") == contents(datastore)


def killed_at(moment, build):
    """Build until a file is about to be written, and die."""
    calls = itertools.count(1)
    atomic.os.fsync = lambda descriptor: next(calls) == moment and os.kill(os.getpid(), signal.SIGKILL)
    build()


def test_after_kills_datastore_neighbours_and_cache_are_the_same(
    datastore, neighbours, cache, data, teacher_path, tmp_path
):
    for name, build, expected, moments in (
        ("datastore", lambda out: make_datastore(data, teacher_path, out), datastore, (1, 2, 5)),
        ("neighbours", lambda out: make_neighbours(data, teacher_path, datastore, out), neighbours, (2, 4)),
        ("cache", lambda out: make_cache(data, teacher_path, out, knn_datastore=str(datastore)), cache, (3, 6)),
    ):
        out = tmp_path / name
        for moment in moments:
            worker = Worker(partial(killed_at, moment, partial(build, out)), [], tmp_path / "log")
            worker.process.join()
            assert worker.process.exitcode == -signal.SIGKILL
            assert contents(out) != contents(expected)
        build(out)
        assert contents(out) == contents(expected)


def test_two_workers_write_the_same_cache(data, teacher_path, datastore, cache, tmp_path):
    for worker in (1, 0):
        make_cache(data, teacher_path, tmp_path / "out", worker=worker, workers=2, knn_datastore=str(datastore))
    assert contents(tmp_path / "out") == contents(cache)


def test_a_sentence_that_is_too_long_has_no_entries(data, teacher_path, task, tmp_path, monkeypatch, caplog):
    task.load_dataset("test")
    lengths = task.dataset("test").tgt_sizes
    monkeypatch.setattr("nmt_kd.engine.teacher.Teacher.max_positions", lambda self: (1024, int(min(lengths))))
    with caplog.at_level(logging.WARNING):
        out = make_datastore(data, teacher_path, tmp_path / "out", subset="test")
    too_long = int((lengths > min(lengths)).sum())
    line = (
        f"test: {too_long} sentences are longer than the teacher's 1024 and {min(lengths)} positions and are left out"
    )
    assert line in caplog.text
    found = Datastore.open(str(out), task, file_hash(teacher_path), "base.pt")
    assert len(found.entries) == sum(length for length in lengths if length == min(lengths))
    assert len(found.entries.of_sentences([int(lengths.argmax())])) == 0


# -- the predictions --------------------------------------------------------------------------------------------------


def slow_predictions(store, sentence, temperature, relative, own_entry, vocabulary):
    """q over the vocabulary at each position of a sentence, from all keys in plain Python."""
    everything = numpy.arange(len(store.entries))
    keys, tokens = store.entries.at("keys", everything).astype(float), store.entries.at("tokens", everything).tolist()
    rows = []
    for entry in store.entries.of_sentences([sentence]).tolist():
        distances = ((keys - keys[entry]) ** 2).sum(1).tolist()
        others = [number for number in everything.tolist() if own_entry or number != entry]
        nearest = sorted(others, key=lambda number: (distances[number], number))[:K]
        tau = temperature or relative * sum(distances[number] for number in nearest) / K
        weights = {number: numpy.exp(-distances[number] / tau) for number in nearest}
        q = [0.0] * vocabulary
        for number, weight in weights.items():
            q[tokens[number]] += weight / sum(weights.values())
        rows.append(q)
    return rows


@pytest.mark.parametrize("own_entry", [False, True])
@pytest.mark.parametrize(("temperature", "relative"), [(3.0, 0.2), (0.0, 0.5)])
def test_a_cache_has_the_tokens_of_the_nearest_entries(
    own_entry, temperature, relative, data, task, teacher_path, datastore, neighbours, tmp_path
):
    out = make_cache(
        data,
        teacher_path,
        tmp_path / "out",
        ["valid"],
        knn_neighbours=str(neighbours),
        knn_temperature=temperature,
        knn_relative_temperature=relative,
        knn_own_entry=own_entry,
    )
    store = Datastore.open(str(datastore), task, file_hash(teacher_path), "base.pt")
    size = len(task.target_dictionary)
    for sentence, (words, log_q, log_rest) in enumerate(read_store(out, task, "valid")):
        if sentence not in (0, 7, 19):
            continue
        assert log_rest.eq(-torch.inf).all()
        expected = slow_predictions(store, sentence, temperature, relative, own_entry, size)
        for position, q in enumerate(expected):
            assert len(set(words[position].tolist())) == K
            found = log_q[position].exp().tolist()
            assert found == pytest.approx([q[word] for word in words[position]], abs=2e-3)
            assert sum(found) == pytest.approx(1, abs=2e-3)


def test_neighbours_found_before_give_the_same_cache(data, teacher_path, neighbours, cache, tmp_path):
    found = make_cache(data, teacher_path, tmp_path / "out", knn_neighbours=str(neighbours))
    assert contents(found) == contents(cache)


def test_fewer_words_than_top_k_are_filled_up_without_mass(data, task, teacher_path, neighbours, tmp_path):
    out = make_cache(data, teacher_path, tmp_path / "out", ["valid"], top_k=9, knn_neighbours=str(neighbours))
    for words, log_q, _ in read_store(out, task, "valid"):
        assert words.shape[1] == 9
        assert all(len(set(row)) == 9 for row in words.tolist())
        assert log_q[:, K:].le(-100).all()


def test_a_mixture_with_the_base_model(data, task, teacher_path, neighbours, tmp_path, caplog):
    size, stores = len(task.target_dictionary), []
    for share in (1.0, 0.25):
        options = {"knn_neighbours": str(neighbours), "knn_share": share}
        with caplog.at_level(logging.INFO):
            out = make_cache(data, teacher_path, tmp_path / str(share), ["valid"], size, **options)
        stores.append(list(read_store(out, task, "valid")))
    main(
        [
            "cache",
            str(data),
            str(tmp_path / "base"),
            "--teacher-path",
            str(teacher_path),
            "--top-k",
            str(size),
            "--gen-subset",
            "valid",
        ]
    )
    stores.append(list(read_store(tmp_path / "base", task, "valid")))
    for parts in zip(*stores, strict=True):
        q, mixed, p = (torch.zeros(len(words), size).scatter(1, words, log_q.exp()) for words, log_q, _ in parts)
        torch.testing.assert_close(mixed, 0.25 * q + 0.75 * p, rtol=2e-3, atol=2e-3)
    assert "with the base model, gold tokens have log-probability -" in caplog.text


def test_the_log_says_what_the_neighbours_look_like(data, task, teacher_path, neighbours, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        out = make_cache(data, teacher_path, tmp_path / "out", ["valid"], knn_neighbours=str(neighbours))
    (line,) = re.findall(r"valid: means of .*", caplog.text)
    task.load_dataset("valid")
    mass = [
        float(log_q.exp().where(words == item["target"].unsqueeze(-1), 0.0).sum())
        for (words, log_q, _), item in zip(read_store(out, task, "valid"), task.dataset("valid"), strict=True)
    ]
    positions = int(sum(task.dataset("valid").tgt_sizes))
    assert line.startswith(f"valid: means of {positions:,} positions: squared distance ")
    found = float(re.search(r"gold tokens have ([\d.]+) of the mass", line)[1])
    assert found == pytest.approx(sum(mass) / positions, abs=1e-3)
    assert re.search(r"log-probability -[\d.]+ \(with 1% uniform\); entropy [\d.]+ nats$", line)


def test_a_student_is_trained_from_neighbours_that_were_found_by_commands(data, teacher_path, tmp_path):
    base = ["--teacher-path", str(teacher_path)]
    found, store, cache = (str(tmp_path / name) for name in ("found", "store", "cache"))
    main(["datastore", str(data), store, *base, "--gen-subset", "valid"])
    main(["neighbours", str(data), found, *base, "--knn-datastore", store, "--knn-k", "8"])
    main(["cache", str(data), cache, "--source", "knn", *base, "--knn-neighbours", found, "--knn-k", "4"])
    run = train_here(
        data,
        tmp_path / "student",
        *("--criterion", "word_kd", "--teacher-cache", cache, "--label-smoothing", "0.1"),
        *("--max-update", "12", "--dropout", "0"),
    )
    losses = run.values("train_inner", "kd_loss")
    assert losses[-1] < 0.9 * losses[0]


def test_faiss_teaches_as_the_exact_search_does(data, task, teacher_path, datastore, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt_kd.caching.neighbours.opening.EXACT_UP_TO", 100)  # so that auto means faiss
    copy = tmp_path / "datastore"
    copy.mkdir()
    for name, content in contents(datastore).items():
        (copy / name).write_bytes(content)
    out = make_cache(data, teacher_path, tmp_path / "out", ["valid"], knn_datastore=str(copy), knn_probes=1000)
    assert "faiss IVF" in json.loads((out / "manifest.json").read_text())["teacher"]
    agree = [
        float((ours[0][:, 0] == exact[0][:, 0]).double().mean())
        for ours, exact in zip(read_store(out, task, "valid"), read_store(cache, task, "valid"), strict=True)
    ]
    assert sum(agree) / len(agree) > 0.95


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--knn-k", "4"],
            r"^--knn-k is an option of --source knn, not of --source checkpoint$",
        ),
        (["--source", "knn"], r"^no datastore given; name with --knn-datastore a folder that nmt-kd datastore writes$"),
        (["--source", "knn", "--knn-k", "0"], r"^--knn-k is 0; it must be 1 or more$"),
        (["--source", "knn", "--knn-share", "0"], r"^--knn-share is 0.0; it must be above 0 and at most 1$"),
        (["--source", "knn", "--knn-temperature", "-1"], r"^--knn-temperature is -1.0; it must be 0 or more$"),
        (["--source", "knn", "--knn-index", "flat"], r"^--knn-index is flat; it must be auto, exact or faiss$"),
        (
            ["--source", "knn", "--knn-k", "100000", "--knn-datastore", "DATASTORE"],
            r"^--knn-k is 100000, but .*/out has only \d+ entries; give fewer$",
        ),
        (
            ["--source", "knn", "--knn-neighbours", "NEIGHBOURS", "--knn-datastore", "DATASTORE"],
            r"^--knn-datastore is an option of the search, but --knn-neighbours gives neighbours already found; leave "
            r"out one of them$",
        ),
        (
            ["--source", "knn", "--knn-neighbours", "NEIGHBOURS", "--knn-k", "9"],
            r"^--knn-k is 9, but .*/out has 8 neighbours of each position; give at most 8$",
        ),
        (
            ["--source", "knn", "--knn-neighbours", "NEIGHBOURS", "--knn-k", "4", "--gen-subset", "train"],
            r"^.*/out has no neighbours for train; find them with nmt-kd neighbours --gen-subset train$",
        ),
        (
            ["--source", "knn", "--knn-datastore", "NEIGHBOURS"],
            r"^.*/out is a folder of nearest neighbours, not a datastore of decoder states; give a folder that nmt-kd",
        ),
        (
            ["--source", "knn", "--knn-neighbours", "DATASTORE"],
            r"^.*/out is a datastore of decoder states, not a folder of nearest neighbours; give a folder that nmt-kd",
        ),
        (
            ["--source", "knn", "--knn-datastore", "NOTHING"],
            r"^.*/none contains no datastore of decoder states \(no manifest.json\); run nmt-kd datastore D",
        ),
    ],
)
def test_wrong_options_are_named(flags, message, data, teacher_path, datastore, neighbours, tmp_path):
    folders = {"DATASTORE": datastore, "NEIGHBOURS": neighbours, "NOTHING": tmp_path / "none"}
    command = ["cache", data, tmp_path / "out", "--teacher-path", teacher_path]
    with pytest.raises(UserError, match=message):
        main([str(folders.get(part, part)) for part in [*command, *flags]])


@pytest.fixture(scope="module")
def other_model(teacher_path, tmp_path_factory):
    state = read_checkpoint_file(teacher_path)
    state["model"]["decoder.layers.0.fc2.bias"].add_(1)
    path = tmp_path_factory.mktemp("other") / "other.pt"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("option", ["knn_datastore", "knn_neighbours"])
def test_another_model_is_refused(option, data, other_model, teacher_path, datastore, neighbours):
    folder = datastore if option == "knn_datastore" else neighbours
    hashes = rf"\({file_hash(teacher_path)}\) than {other_model} \({file_hash(other_model)}\)"
    with pytest.raises(UserError, match=rf"^{folder} was made with another model {hashes}; give the checkpoint that"):
        open_source(data, other_model, **{option: str(folder)})


def test_a_datastore_of_another_model_is_not_resumed(data, other_model, datastore):
    with pytest.raises(UserError, match=r"was made with model '\w+', but this run has '\w+'; use the same settings"):
        make_datastore(data, other_model, datastore)


@pytest.fixture
def changed(datastore, neighbours, tmp_path):
    """A copy of a folder with something replaced in a manifest."""

    def changed(option, manifest, pattern, replacement):
        folder = tmp_path / "copy"
        for name, content in contents(datastore if option == "knn_datastore" else neighbours).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        text = (folder / manifest).read_text()
        (folder / manifest).write_text(re.sub(pattern, replacement, text))
        assert (folder / manifest).read_text() != text
        return folder

    return changed


@pytest.mark.parametrize("option", ["knn_datastore", "knn_neighbours"])
def test_another_dictionary_or_format_is_refused(option, data, teacher_path, changed):
    folder = changed(option, "manifest.json", r'"target_dictionary": "\w+"', '"target_dictionary": "0"')
    with pytest.raises(
        UserError, match=r"/copy was made with target_dictionary '0', but .*data-bin has '\w+'; give da"
    ):
        open_source(data, teacher_path, **{option: str(folder)})
    folder = changed(option, "manifest.json", r'"format": 1', '"format": 9')
    with pytest.raises(UserError, match=r"in format 9, but this version of nmt-kd reads format 1; make it again with"):
        open_source(data, teacher_path, **{option: str(folder)})


@pytest.mark.parametrize(
    ("option", "manifest"), [("knn_datastore", "manifest.json"), ("knn_neighbours", "valid/manifest.json")]
)
def test_other_data_is_refused(option, manifest, data, teacher_path, changed, tmp_path):
    folder = changed(option, manifest, r'"data": "\w+"', '"data": "00000000"')
    with pytest.raises(
        UserError, match=r"was made from another valid \(checksum 00000000\) than that of .*data-bin \("
    ):
        make_cache(data, teacher_path, tmp_path / "out", **{option: str(folder)})


def test_an_incomplete_or_damaged_datastore_is_refused(data, teacher_path, changed):
    folder = changed("knn_datastore", "manifest.json", "nmt_kd", "noted")
    block = folder / "0000003.safetensors"
    block.write_bytes(block.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"^{block} is damaged; rerun nmt-kd datastore to compute it again$"):
        open_source(data, teacher_path, knn_datastore=str(folder))
    block.unlink()
    with pytest.raises(UserError, match=r"/copy lacks 1 of its 4 files; rerun nmt-kd datastore to compute"):
        open_source(data, teacher_path, knn_datastore=str(folder))


def test_a_model_that_has_no_single_feed_forward_block_is_refused(data, teacher_path, tmp_path):
    with pytest.raises(UserError, match=r"names 2 checkpoints, but keys come from one model; give one$"):
        make_datastore(data, f"{teacher_path}:{teacher_path}", tmp_path / "out")
    lstm = [
        *("--arch", "lstm", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16", "--encoder-hidden-size", "16")
    ]
    lstm += ["--decoder-hidden-size", "16", "--decoder-out-embed-dim", "16"]
    cross_entropy = ["--criterion", "cross_entropy", "--max-update", "1", "--disable-validation"]
    train_here(data, tmp_path / "lstm", *cross_entropy, architecture=lstm)
    with pytest.raises(
        UserError, match=r"^the decoder of .* \(LSTMDecoder\) has no feed-forward block in its last lay"
    ):
        make_datastore(data, tmp_path / "lstm/checkpoint_last.pt", tmp_path / "out")


def test_a_base_model_that_has_diverged_is_refused(data, teacher_path, tmp_path):
    state = read_checkpoint_file(teacher_path)
    state["model"]["decoder.layers.0.encoder_attn_layer_norm.weight"].fill_(1e6)
    torch.save(state, tmp_path / "large.pt")
    with pytest.raises(UserError, match=r"^a decoder state of the base model is NaN or too large for float16, so its "):
        make_datastore(data, tmp_path / "large.pt", tmp_path / "out")
