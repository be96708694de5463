"""A cache that an earlier version has written stays readable, and is written in the same way."""

import shutil
from pathlib import Path

import numpy
import pytest

from nmt_kd.caching.files import Block, Positions, SubsetFolder, cache_manifest

RECORDED = Path(__file__).with_name("recorded")
TOP_K, VOCABULARY = 3, 300


def positions(number):
    """Those of a sentence; the last but one was too long for the teacher."""
    length = number + 1 if number != 3 else 0
    words = numpy.array([[number, index, 299] for index in range(length)]).reshape(-1, TOP_K)
    log_q = numpy.array([[-0.5, -1.5, -number] for _ in range(length)]).reshape(-1, TOP_K)
    return Positions.of(words, log_q, -1.0 - numpy.arange(length), VOCABULARY)


@pytest.fixture
def subset(tmp_path):
    return SubsetFolder(shutil.copytree(RECORDED, tmp_path / "cache") / "train", 5, 2, TOP_K, VOCABULARY)


def test_it_is_read(subset):
    assert subset.missing(range(3)) == []
    for block, numbers in enumerate(([0, 1], [2, 3], [4])):
        found = subset.open(block, check=True)
        assert found.first == numbers[0]
        assert found.checksums.tolist() == [1001 * number for number in numbers]
        for number in numbers:
            ours, expected = found.sentence(number), positions(number)
            assert ours.words.tolist() == expected.words.tolist()
            assert ours.log_q.tolist() == expected.log_q.tolist()
            assert ours.log_rest.tolist() == expected.log_rest.tolist()


def test_it_is_resumed_with_the_same_files(subset, tmp_path):
    settings = {name: value for name, value in cache_manifest(RECORDED / "train").read().items() if name != "nmt_kd"}
    cache_manifest(subset.folder).claim(settings)
    new = SubsetFolder(tmp_path, 5, 2, TOP_K, VOCABULARY)
    for block in range(len(new.sizes)):
        numbers = new.numbers(block)
        new.write(block, Block.of(numbers[0], [1001 * n for n in numbers], [positions(n) for n in numbers]))
        assert new.path(block).read_bytes() == (RECORDED / "train" / new.path(block).name).read_bytes()
