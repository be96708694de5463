"""Searching a datastore for neighbours, exactly and with faiss."""

import logging
import re
import sys

import numpy
import pytest
import torch

from nmt_kd.caching.neighbours import search
from nmt_kd.caching.neighbours.approximate import ApproximateSearch, index_kind
from nmt_kd.caching.neighbours.datastore import Datastore
from nmt_kd.caching.neighbours.files import PositionValues, ValueBlock, Values
from nmt_kd.caching.neighbours.finding import NeighbourTokens
from nmt_kd.caching.neighbours.search import ExactSearch
from nmt_kd.errors import UserError

# -- the search -------------------------------------------------------------------------------------------------------


def in_memory(keys, tokens=None, block=7, folder=None):
    """A datastore of sentences of one position each."""
    keys = numpy.asarray(keys, numpy.float16)
    tokens = numpy.arange(len(keys)) if tokens is None else numpy.asarray(tokens)
    blocks = []
    for first in range(0, len(keys), block):
        values = Values({"keys": keys[first : first + block], "tokens": tokens[first : first + block]})
        blocks.append(ValueBlock(first, numpy.arange(len(values) + 1), values))
    settings = {"width": keys.shape[1], "subset": "train", "data": "1"}
    return Datastore(folder, settings, PositionValues(block, blocks))


def slow_neighbours(keys, query, k):
    """Squared distances and entries, nearest first, the earlier of equals first, in plain lists."""
    distances = [sum((float(a) - float(b)) ** 2 for a, b in zip(key, query, strict=True)) for key in keys]
    ranking = sorted(range(len(keys)), key=lambda entry: (distances[entry], entry))[:k]
    return [distances[entry] for entry in ranking], ranking


@pytest.fixture
def in_small_pieces(monkeypatch):
    monkeypatch.setattr(search, "KEYS_AT_ONCE", 5)
    monkeypatch.setattr(search, "QUERIES_AT_ONCE", 3)
    monkeypatch.setattr(search, "ELEMENTS_AT_ONCE", 40)
    monkeypatch.setattr(search, "MARGIN", 2)


@pytest.mark.parametrize("kind", ["random", "ties", "duplicates"])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_neighbours_are_the_nearest_and_the_earlier_of_equals(kind, k, in_small_pieces):
    generator = numpy.random.default_rng(1)
    keys = generator.standard_normal((40, 3)).astype(numpy.float16)
    if kind == "ties":  # few distances, more of each than the margin
        keys = generator.integers(-1, 2, (40, 3)).astype(numpy.float16)
    elif kind == "duplicates":
        keys[5:35] = keys[5]
    queries = numpy.concatenate([keys[:8], generator.integers(-2, 3, (3, 3)).astype(numpy.float16)])
    found = ExactSearch(in_memory(keys)).nearest(torch.from_numpy(queries), k)
    for row, query in enumerate(queries):
        distances, entries = slow_neighbours(keys, query, k)
        assert found.distances[row].tolist() == pytest.approx(distances, rel=1e-6)
        assert found.entries[row].tolist() == entries
    assert found.distances[:8, 0].eq(0).all()


def test_distances_beyond_float16_are_finite():
    keys = numpy.array([[200.0, -300.0], [-200.0, 300.0], [60_000.0, 0.0]], numpy.float16)
    found = ExactSearch(in_memory(keys)).nearest(torch.from_numpy(keys[:1]), 3)
    assert found.entries.tolist() == [[0, 1, 2]]
    assert found.distances.tolist() == [[0, 520_000, pytest.approx((60_000 - 200) ** 2 + 300**2)]]


def test_large_blocks_are_searched_by_maxima_and_keep_the_order_of_ties():
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(0, 50, (20, 3000), generator=generator).float()
    columns = search.largest(values, 7)
    expected = values.sort(dim=-1, descending=True, stable=True).indices[:, :7].sort(-1).values
    assert columns.equal(expected)


def test_memory_does_not_grow_with_the_datastore():
    keys = numpy.random.default_rng(1).standard_normal((150_000, 4))
    store = in_memory(keys, block=30_000)
    sizes = []
    addmm = torch.addmm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "addmm", lambda *a, **b: sizes.append((found := addmm(*a, **b)).numel()) or found)
        ExactSearch(store).nearest(torch.from_numpy(keys[:1500].astype(numpy.float16)), 3)
    assert len(sizes) == 5 * 3
    assert max(sizes) <= search.KEYS_AT_ONCE * search.QUERIES_AT_ONCE


@pytest.mark.parametrize("own_entry", [False, True])
def test_the_own_entry_is_left_out_or_kept(own_entry):
    distances = torch.arange(4.0).expand(3, 4)
    tokens = torch.tensor([[10, 11, 12, 13]] * 3)
    found = NeighbourTokens(distances, tokens, torch.tensor([0, 2, -1])).chosen(3, own_entry)
    if own_entry:
        assert found[1].tolist() == [[10, 11, 12]] * 3
    else:
        assert found[1].tolist() == [[11, 12, 13], [10, 11, 13], [10, 11, 12]]
        assert found[0].tolist() == [[1, 2, 3], [0, 1, 3], [0, 1, 2]]


# -- faiss ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [600, 12_000])
def test_faiss_finds_most_of_the_neighbours_with_their_distances(entries, tmp_path, caplog):
    centres = numpy.random.default_rng(1).standard_normal((30, 16)) * 3
    keys = centres[numpy.arange(entries) % 30] + numpy.random.default_rng(2).standard_normal((entries, 16))
    store = in_memory(keys, block=1000, folder=tmp_path)
    with caplog.at_level(logging.INFO):
        ours = ApproximateSearch(store, probes=8)
        ours.log_recall(10)
    assert float(re.search(r"finds ([\d.]+)% of the 10 nearest", caplog.text)[1]) > 85
    assert re.search(rf"{entries:,} of {entries:,} keys", caplog.text)
    queries = torch.from_numpy(store.entries.at("keys", numpy.arange(50)))
    found, exact = ours.nearest(queries, 10), ExactSearch(store).nearest(queries, 10)
    same = found.entries == exact.entries
    assert found.distances[same].equal(exact.distances[same])
    written = ours.path.stat().st_mtime_ns
    assert ApproximateSearch(store, probes=8).nearest(queries, 10).entries.equal(found.entries)
    assert ours.path.stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [ours.path]


def test_faiss_visits_all_lists_where_the_nearest_have_too_few_entries(tmp_path):
    keys = numpy.random.default_rng(1).standard_normal((600, 4))
    found = ApproximateSearch(in_memory(keys, block=600, folder=tmp_path), probes=1).nearest(
        torch.zeros(1, 4, dtype=torch.float16), 590
    )
    assert len(set(found.entries[0].tolist())) == 590
    assert found.distances.isfinite().all()


def test_a_damaged_index_is_named(tmp_path):
    store = in_memory(numpy.random.default_rng(1).standard_normal((600, 4)), block=600, folder=tmp_path)
    path = ApproximateSearch(store, probes=4).path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError) as error:
        ApproximateSearch(store, probes=4)
    assert str(error.value) == f"{path} is damaged; delete it and rerun to build it again"


def test_without_faiss_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r'^faiss is not installed; install it with pip install "nmt-kd\[knn\]", or gi'):
        ApproximateSearch(in_memory(numpy.zeros((10, 4)), folder=tmp_path), probes=4)


def test_the_index_grows_with_the_datastore():
    assert index_kind(500) == (7, "IVF7,SQ4")
    assert index_kind(500_000) == (2048, "IVF2048,SQ4")
    assert index_kind(150_000_000) == (32768, "IVF32768,SQ4")
