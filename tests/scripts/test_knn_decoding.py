"""Translating with the neighbours of decoder states."""

import knn_decoding
import numpy
import pytest
import torch

from nmt_kd.caching.neighbours.datastore import build_datastore
from nmt_kd.caching.neighbours.keys import KeyReader
from nmt_kd.caching.sources import checkpoint, knn

K, SHARE, LONGEST = 5, 0.6, 100
SENTENCES = (0, 5, 12)


@pytest.fixture(scope="module")
def source(data, seq_kd_teacher, tmp_path_factory):
    task, base = checkpoint.open_source(str(data), str(seq_kd_teacher), checkpoint.Options())
    folder = tmp_path_factory.mktemp("datastore") / "out"
    build_datastore(task, KeyReader(base, str(seq_kd_teacher)), folder, subset="valid")
    options = knn.Options(knn_datastore=str(folder), knn_k=K, knn_share=SHARE)
    return knn.open_source(str(data), str(seq_kd_teacher), options)[1]


def greedily(source, sentence) -> str:
    """The most probable word after each prefix, from the whole prefix and all entries, in float64."""
    model, dictionary = source.base.models[0], source.task.target_dictionary
    entries = source.finder.datastore.entries
    keys = torch.from_numpy(entries.at("keys", numpy.arange(len(entries)))).double()
    tokens = torch.from_numpy(entries.at("tokens", numpy.arange(len(entries))).astype("<i8"))
    words, states = [], []
    hook = model.decoder.layers[-1].fc1.register_forward_pre_hook(lambda layer, inputs: states.append(inputs[0]))
    while len(words) < LONGEST:
        prefix = torch.tensor([[dictionary.eos(), *words]])
        with torch.no_grad():
            logits = model(sentence.unsqueeze(0), torch.tensor([len(sentence)]), prefix)[0][0, -1].double()
        distances = (keys - states[-1][-1, 0].half().double()).square().sum(-1)
        nearest = distances.argsort(stable=True)[:K]
        temperature = source.options.knn_relative_temperature * distances[nearest].mean()
        probabilities = (1 - SHARE) * logits.softmax(-1)
        for entry, weight in zip(nearest, (-distances[nearest] / temperature).softmax(-1), strict=True):
            probabilities[tokens[entry]] += SHARE * weight
        probabilities[dictionary.pad()] = 0
        word = int(probabilities.argmax())
        if word == dictionary.eos():
            break
        words.append(word)
    hook.remove()
    return " ".join(dictionary[word] for word in words)


def test_translations_are_those_of_a_slow_form(source, task):
    task.load_dataset("test")
    expected = [greedily(source, task.dataset("test")[number]["source"]) for number in SENTENCES]
    found = knn_decoding.translate(source, "test", beam=1, lenpen=1.0, max_tokens=200)
    assert len(found) == 13
    assert [found[number] for number in SENTENCES] == expected
    assert all(len(line.split()) < LONGEST for line in expected)  # they end by themselves


def test_the_command_writes_text_and_the_model_is_as_before(source, data, corpus, seq_kd_teacher, tmp_path):
    model = source.base.models[0]
    before = model.get_normalized_probs
    with knn_decoding.predicting_with_neighbours(model, source):
        assert model.get_normalized_probs != before
    assert model.get_normalized_probs == before
    arguments = [data, tmp_path / "out.de", "--teacher-path", seq_kd_teacher, "--beam", "1", "--lenpen", "1"]
    arguments += ["--subword-model", corpus / "pieces/subwords.model", "--knn-k", K, "--knn-share", SHARE]
    knn_decoding.main([str(item) for item in (*arguments, "--knn-datastore", source.options.knn_datastore)])
    expected = knn_decoding.translate(source, "test", beam=1, lenpen=1.0, max_tokens=4000)
    lines = (tmp_path / "out.de").read_text(encoding="utf-8").splitlines()
    assert lines == [line.replace(" ", "").replace("\u2581", " ").strip() for line in expected]


def test_a_missing_datastore_is_one_line(data, corpus, seq_kd_teacher, tmp_path):
    model = corpus / "pieces/subwords.model"
    arguments = [data, tmp_path / "out", "--teacher-path", seq_kd_teacher, "--subword-model", model]
    with pytest.raises(SystemExit, match=r"^knn_decoding\.py: error: no datastore given; name with --knn-datastore"):
        knn_decoding.main([str(item) for item in arguments])
