import errno
import json
import os

import numpy
import pytest

from nmt_kd.decoding.shards import BlocksByLength, Decoded, Hypothesis, ShardFolder
from nmt_kd.errors import UserError
from nmt_kd.storage.blocks import of_worker

SETTINGS = {"teacher": "abc", "beam": 4}


def sentence(number):
    return Decoded(number, "00000000", [Hypothesis(-0.5, f'▁Satz "{number}"'), Hypothesis(-1.0, "\\ \u2028 ▁x")])


@pytest.fixture
def folder(tmp_path):
    folder = ShardFolder(tmp_path / "kd")
    folder.claim(SETTINGS)
    return folder


def test_a_block_comes_back_as_it_was_in_the_order_of_its_numbers(folder):
    folder.write(3, [sentence(9), sentence(2)])
    assert not folder.missing([3])
    assert list(folder.read(3)) == [sentence(2), sentence(9)]
    assert folder.missing([4]) == [4]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_every_sentence_is_in_one_block_of_one_worker(workers):
    blocks = BlocksByLength(numpy.random.default_rng(1).integers(1, 50, size=53), block_sentences=4)
    seen = [block for worker in range(workers) for block in of_worker(len(blocks), worker, workers)]
    assert sorted(seen) == list(range(len(blocks)))
    numbers = numpy.concatenate([blocks.sentences(block) for block in range(len(blocks))])
    assert sorted(numbers) == list(range(53))
    assert (numpy.diff(blocks.sizes[numbers]) <= 0).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("Satz", "Platz", 1),
        lambda text: "\n".join(text.splitlines()[1:]) + "\n",
        lambda text: text.replace('"sha256"', '"sha"'),
        lambda text: text + "x",
        lambda text: "",
    ],
    ids=["end cut off", "half", "changed", "line lost", "no checksum", "garbage behind", "empty"],
)
def test_a_damaged_block_is_put_aside_and_missing(folder, damage):
    folder.write(0, [sentence(0), sentence(1)])
    path = folder.path(0)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert folder.missing([0]) == [0]
    assert not path.exists()
    assert path.with_suffix(".damaged").exists()
    folder.write(0, [sentence(0), sentence(1)])
    assert folder.missing([0]) == []


def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing_half_written(folder, monkeypatch):
    folder.write(0, [sentence(0)])

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"^cannot write .*0000001.jsonl: No space left on device; free some disk"):
        folder.write(1, [sentence(1)])
    assert [path.name for path in folder.folder.iterdir()] == ["0000000.jsonl"]


def test_the_same_settings_resume_and_others_are_refused(folder):
    ShardFolder(folder.distill_dir).claim(dict(SETTINGS))
    with pytest.raises(UserError, match=r"was made with beam 4, but this run has 5; use the same settings"):
        ShardFolder(folder.distill_dir).claim({**SETTINGS, "beam": 5})
    with pytest.raises(UserError, match=r"was made with lenpen None, but this run has 0\.6"):
        ShardFolder(folder.distill_dir).claim({**SETTINGS, "lenpen": 0.6})
    assert sorted(path.name for path in folder.distill_dir.iterdir()) == ["manifest.json", "shards"]


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(UserError, match=r"contains no decoded sentences \(no manifest.json\)"):
        ShardFolder(tmp_path).settings()


def test_a_damaged_manifest_is_named(folder):
    (folder.distill_dir / "manifest.json").write_text('{"beam":')
    with pytest.raises(UserError, match=r"manifest.json is damaged; delete it and rerun the same command"):
        folder.claim(SETTINGS)


@pytest.mark.parametrize("damage", ["", '{"id": 8, "sour'])
def test_sentences_are_counted_up_to_the_last_block_even_if_that_is_damaged(folder, damage):
    folder.write(0, [sentence(number) for number in range(4)])
    folder.write(1, [sentence(4), sentence(5)])
    assert folder.sentences_so_far(4) == 6
    folder.path(1).write_text(damage)
    assert folder.sentences_so_far(4) == 5  # so that block 1 is missed
    assert folder.missing([0, 1]) == [1]


def test_notes_travel_with_a_sentence():
    decoded = Decoded(1, "x", [], {"first_choices": "101"})
    assert json.loads(decoded.as_line())["first_choices"] == "101"
    assert Decoded.from_line(decoded.as_line()) == decoded
