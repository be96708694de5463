"""A Marian model that was trained a little, and a place for converted models."""

import random

import pytest
import torch

from translators.teachers import marian, save, shortest_pairs


@pytest.fixture(autouse=True)
def converted(tmp_path_factory, monkeypatch):
    """The folder that converted models are kept in."""
    folder = tmp_path_factory.getbasetemp() / "converted"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "nmt-kd/ctranslate2"


@pytest.fixture(scope="session")
def trained_marian(corpus, tmp_path_factory):
    """The folder of a Marian model that has learned the shortest training sentences."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("marian")
    model, tokenizer = marian(folder, corpus / "pieces/subwords.model", source_lang="en", target_lang="de")
    pairs = shortest_pairs(corpus)
    optimizer, draw = torch.optim.Adam(model.parameters(), lr=0.005), random.Random(1)
    for _ in range(250):
        sources, targets = zip(*draw.sample(pairs, 25), strict=True)
        batch = tokenizer(list(sources), text_target=list(targets), padding=True, return_tensors="pt")
        batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        model.model.shared.weight.data[tokenizer.pad_token_id] = 0  # as Marian's own training leaves it
    return save(folder, model, tokenizer)
