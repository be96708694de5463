"""A decoding that an earlier version has written stays readable, and is written in the same way."""

import json
import shutil
from pathlib import Path

import numpy
import pytest

from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.shards import BlocksByLength, Decoded, Hypothesis, ShardFolder

RECORDED = Path(__file__).with_name("recorded")
SIZES = numpy.array([3, 9, 5, 2, 9, 1, 7, 4, 6, 8])


def sentence(number):
    hypotheses = [Hypothesis(-0.25 - number, f'▁Satz "{number}" ▁\u2028'), Hypothesis(-0.33333, "▁x")]
    return Decoded(number, f"{number:08x}", hypotheses, {"first_choices": "101"})


@pytest.fixture
def folder(tmp_path):
    return ShardFolder(shutil.copytree(RECORDED, tmp_path / "kd"))


def test_it_is_read(folder):
    assert folder.missing(range(3)) == []
    assert list(in_order(folder)) == [sentence(number) for number in range(10)]


def test_it_is_resumed_with_the_same_files(folder, tmp_path):
    settings = json.loads((RECORDED / "manifest.json").read_text())
    folder.claim(settings)
    new = ShardFolder(tmp_path / "new")
    new.claim(settings)
    blocks = BlocksByLength(SIZES, 4)
    for block in range(len(blocks)):
        new.write(block, [sentence(number) for number in blocks.sentences(block).tolist()])
    for path in [path for path in RECORDED.rglob("*") if path.is_file()]:
        assert (new.distill_dir / path.relative_to(RECORDED)).read_bytes() == path.read_bytes()
