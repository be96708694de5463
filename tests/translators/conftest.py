"""A Marian model that was trained a little, and a place for converted models."""

import random

import pytest
import torch

from translators.teachers import lines, marian, save


@pytest.fixture(autouse=True)
def converted(tmp_path_factory, monkeypatch):
    """The folder that converted models are kept in."""
    folder = tmp_path_factory.getbasetemp() / "converted"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "nmt-kd/ctranslate2"


@pytest.fixture(scope="session")
def trained_marian(corpus, tmp_path_factory):
    """The folder of a Marian model that translates the phrasebook better than chance."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("marian")
    model, tokenizer = marian(folder, corpus / "pieces/subwords.model", source_lang="en", target_lang="de")
    sources, targets = (lines(corpus / f"text/train.{language}") for language in ("en", "de"))
    encoded = tokenizer(sources, text_target=targets)
    by_length = sorted(range(len(sources)), key=lambda number: len(encoded["labels"][number]))
    optimizer, draw = torch.optim.Adam(model.parameters(), lr=0.005), random.Random(1)
    for _ in range(200):
        first = draw.randrange(len(sources) - 30)
        batch = by_length[first : first + 30]
        inputs = tokenizer.pad({"input_ids": [encoded["input_ids"][number] for number in batch]}, return_tensors="pt")
        labels = [torch.tensor(encoded["labels"][number]) for number in batch]
        padded = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        model(**inputs, labels=padded).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.model.shared.weight.data[tokenizer.pad_token_id] = 0  # as Marian's own training leaves it
        optimizer.zero_grad()
    return save(folder, model, tokenizer)
