"""A cache that an earlier version has written stays readable, and is written in the same way."""

import shutil
from pathlib import Path

import numpy
import pytest

from nmt_kd.caching.files import Block, SubsetFolder, cache_manifest, position_dtype

RECORDED = Path(__file__).with_name("recorded")
DTYPE = position_dtype(3, 300)


def positions(number):
    """Those of a sentence; the last but one was too long for the teacher."""
    made = numpy.zeros(number + 1 if number != 3 else 0, DTYPE)
    for index in range(len(made)):
        made[index] = (-1 - index, [number, index, 299], [-0.5, -1.5, -number])
    return made


@pytest.fixture
def subset(tmp_path):
    return SubsetFolder(shutil.copytree(RECORDED, tmp_path / "cache") / "train", 5, 2, DTYPE)


def test_it_is_read(subset):
    assert subset.missing(range(3)) == []
    for block, numbers in enumerate(([0, 1], [2, 3], [4])):
        found = subset.open(block, check=True)
        assert found.first == numbers[0]
        assert found.checksums.tolist() == [1001 * number for number in numbers]
        for index, number in enumerate(numbers):
            assert (found.positions[found.offsets[index] : found.offsets[index + 1]] == positions(number)).all()


def test_it_is_resumed_with_the_same_files(subset, tmp_path):
    settings = {name: value for name, value in cache_manifest(RECORDED / "train").read().items() if name != "nmt_kd"}
    cache_manifest(subset.folder).claim(settings)
    new = SubsetFolder(tmp_path, 5, 2, DTYPE)
    for block in range(len(new.sizes)):
        numbers = new.numbers(block)
        new.write(block, Block.of(numbers[0], [1001 * n for n in numbers], [positions(n) for n in numbers]))
        assert new.path(block).read_bytes() == (RECORDED / "train" / new.path(block).name).read_bytes()
