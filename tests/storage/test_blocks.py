"""Folders filled block by block, with the simplest kind of block."""

import pytest

from nmt_kd.storage import blocks
from nmt_kd.storage.blocks import BlockFolder, fill, of_worker

SIZES = [3, 3, 3, 2]


class Numbers(BlockFolder[list[int]]):
    """Blocks of numbers that add up to the last one."""

    suffix = ".txt"

    def __init__(self, folder):
        self.folder = folder

    def encode(self, content):
        return [f"{number}\n".encode() for number in [*content, sum(content)]]

    def is_whole(self, block):
        *numbers, total = map(int, self.path(block).read_text().split())
        return sum(numbers) == total


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "numbers").mkdir()
    return Numbers(tmp_path / "numbers")


def filler(computed):
    def compute(block, progress):
        computed.append(block)
        progress.add(SIZES[block])
        return [block] * SIZES[block]

    return compute


def contents(folder):
    return {path.name: path.read_text() for path in sorted(folder.folder.iterdir())}


def test_every_block_is_computed_once_whatever_the_workers(folder, tmp_path):
    computed = []
    assert fill(folder, SIZES, 0, 1, filler(computed)) == 11
    assert computed == [0, 1, 2, 3]
    (tmp_path / "other").mkdir()
    other = Numbers(tmp_path / "other")
    assert [fill(other, SIZES, worker, 3, filler(computed)) for worker in (2, 0, 1)] == [3, 5, 3]
    assert computed[4:] == [2, 0, 3, 1]
    assert contents(other) == contents(folder)


def test_only_what_is_missing_or_damaged_is_computed_again(folder, caplog):
    fill(folder, SIZES, 0, 1, filler([]))
    whole = contents(folder)
    folder.path(1).unlink()
    folder.path(2).write_text("2\n2\n2\n7\n")
    computed = []
    with caplog.at_level("INFO", logger="nmt_kd"):
        assert fill(folder, SIZES, 0, 1, filler(computed), "numbers") == 6
    assert computed == [1, 2]
    assert contents(folder) == {**whole, "0000002.damaged": "2\n2\n2\n7\n"}
    assert "numbers: worker 1 of 1: 2 of 4 blocks to compute" in caplog.text
    assert "0000002.txt is damaged; renamed to 0000002.damaged, to be computed again" in caplog.text
    assert f"numbers: all blocks are in {folder.folder}" in caplog.text


def test_files_of_killed_workers_are_deleted_when_all_blocks_are_complete(folder):
    left = folder.folder / "0000003.txt.partial.1"
    left.touch()
    fill(folder, SIZES, 0, 2, filler([]))
    assert left.exists()  # its worker may be alive
    fill(folder, SIZES, 1, 2, filler([]))
    assert not left.exists()


def test_a_worker_says_what_is_left_to_others(folder, caplog):
    with caplog.at_level("INFO", logger="nmt_kd"):
        fill(folder, SIZES, 1, 3, filler([]))
    assert "3 blocks are left to other workers" in caplog.text
    assert folder.absent(range(4)) == [0, 2, 3]


def test_a_block_that_fails_leaves_those_before_it(folder):
    def fail(block, progress):
        if block == 2:
            raise ValueError("no")
        return filler([])(block, progress)

    with pytest.raises(ValueError, match="no"):
        fill(folder, SIZES, 0, 1, fail)
    assert sorted(contents(folder)) == ["0000000.txt", "0000001.txt"]


def test_a_block_that_another_worker_puts_aside_first_is_missing(folder, monkeypatch):
    folder.write(0, [1])
    folder.path(0).write_text("1\n2\n")
    real = Numbers.is_whole

    def slow(self, block):
        found = real(self, block)
        self.path(block).unlink()
        return found

    monkeypatch.setattr(Numbers, "is_whole", slow)
    assert folder.missing([0]) == [0]


def test_workers_share_out_all_blocks():
    for workers in (1, 2, 5):
        assert sorted(block for worker in range(workers) for block in of_worker(4, worker, workers)) == [0, 1, 2, 3]
    assert blocks.of_worker(0, 0, 1) == range(0)
