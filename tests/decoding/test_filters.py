"""Which pairs a corpus leaves out: the worst, the repeated, and what happens if none is left or the disk is full."""

import errno
import math
import os
import random
import shutil
import tempfile
from dataclasses import replace
from fractions import Fraction

import pytest
from decoding.test_corpus import make_decoding, train_set, written  # noqa: F401  (a fixture)
from decoding.test_text_form import lines

from nmt_kd import cli
from nmt_kd.decoding import writing
from nmt_kd.decoding.corpus import Candidate, Corpus
from nmt_kd.decoding.filters import Filters, parse_share
from nmt_kd.decoding.opened import Student, open_decodings
from nmt_kd.decoding.order import block_sizes
from nmt_kd.decoding.originals import Originals
from nmt_kd.decoding.parts import parse_folders
from nmt_kd.decoding.shards import Hypothesis, ShardFolder
from nmt_kd.errors import UserError


def pairs_in(folder) -> list[tuple[str, str]]:
    return list(zip(lines(folder / "train.en"), lines(folder / "train.de"), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_are_those_of_a_sorted_list(seed, tmp_path, task):
    draw = random.Random(seed)
    choices = [math.nan, -math.inf, *(-each / 4 for each in range(8))]
    candidates = [Candidate("x", f"s{number}", f"t{number}", draw.choice(choices)) for number in range(200)]
    written(iter(candidates), tmp_path, task, Filters(worst=Fraction("0.29")))
    scored = [number for number in range(200) if not math.isnan(candidates[number].score)]
    worst_first = sorted(scored, key=lambda number: (candidates[number].score, -number))
    dropped = set(worst_first[: len(scored) * 29 // 100])
    assert dropped
    kept = [candidate[1:3] for number, candidate in enumerate(candidates) if number not in dropped]
    assert pairs_in(tmp_path) == kept


def test_a_pair_that_is_in_the_corpus_already_is_left_out(tmp_path, task):
    draw = random.Random(1)
    candidates = [Candidate(draw.choice("abc"), f"s{draw.randrange(9)}", f"t{draw.randrange(9)}") for _ in range(200)]
    first: dict = {}
    for candidate in candidates:
        first.setdefault(candidate[1:3], candidate)
    count = written(iter(candidates), tmp_path, task, Filters(duplicates=True))
    assert pairs_in(tmp_path) == list(first)
    assert count == len(first) < 200


def test_an_original_pair_stays_even_if_an_equal_translation_is_among_the_worst(tmp_path, task):
    candidates = [
        Candidate("kd", "s", "t", -9.0),
        Candidate("kd", "s2", "t2", -1.0),
        Candidate("base", "s", "t"),
        Candidate("base", "s2", "t2"),
    ]
    written(iter(candidates), tmp_path, task, Filters(worst=Fraction(1, 2), duplicates=True))
    assert pairs_in(tmp_path) == [("s2", "t2"), ("s", "t")]


@pytest.mark.parametrize(
    ("text", "share"), [("5%", "1/20"), ("0.05", "1/20"), ("12.5 %", "1/8"), ("0", "0"), ("99.9%", "999/1000")]
)
def test_a_share_is_a_number_or_a_percentage(text, share):
    assert parse_share(text) == Fraction(share)


@pytest.fixture(scope="module")
def decoding(train_set, tmp_path_factory):  # noqa: F811
    return make_decoding(tmp_path_factory.mktemp("kd") / "kd", train_set, nbest=3)


@pytest.fixture
def assemble(decoding, data, tmp_path):
    def assemble(*flags):
        words = ["assemble", decoding, "--data", data, "--output", tmp_path / "out", *flags]
        return cli.main([str(word) for word in words])

    return assemble


REVERSE = ["--reverse-model", "no/model"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "0"], "--workers is 0; it must be 1 or more"),
        (["--max-length-ratio", "0.5"], "--max-length-ratio is 0.5; it must be 1 or more"),
        (["--max-length-ratio", "nan"], "--max-length-ratio is nan; it must be 1 or more"),
        *(
            (
                [f"--drop-worst={share}", *REVERSE],
                f"--drop-worst is {share}; it must be at least 0 and less than 100 %, such",
            )
            for share in ("5", "100%", "-1%", "1", "x%", "%", "nan%")
        ),
        (["--drop-worst", "5%"], "--drop-worst needs a model of the reverse direction; give it as --reverse-model"),
        (REVERSE, "--reverse-model is for --drop-worst; give the share to drop"),
        (["--drop-worst", "5%", *REVERSE, "--corpus", "base"], "--drop-worst applies to translations, and the corpus"),
        (["--corpus", "qe"], "'qe' needs a reference-free COMET model; give it as --qe-comet"),
        (["--mbr-comet", "x"], "--mbr-comet is for the part 'mbr', which no folder has; add the part or leave out"),
        (["--corpus", "mbr", "--qe-comet", "x"], "--qe-comet is for the part 'qe', which no folder has"),
        (["--corpus", "kd+kd"], "the part 'kd' of .* is given twice"),
        (["--corpus", "best-4"], "was decoded with --nbest 3, but 'best-4' needs 4 hypotheses"),
        (["--references", "x"], "--references are only for 'base' and 'inter' of folders with text; leave them out"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_before_any_work(assemble, tmp_path, decoding, flags, message):
    with pytest.raises(UserError, match=message) as error:
        assemble(*flags)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not (decoding / "scores").exists()


def test_a_corpus_without_pairs_is_an_error_and_leaves_no_folder(assemble, tmp_path, monkeypatch):
    monkeypatch.setattr(Filters, "reason", lambda self, source, target, is_copy: "copy of the source")
    for flags in ([], ["--deduplicate"]):
        with pytest.raises(UserError, match=r"no pair is left for the corpus \(copy of the source: 600\); decode othe"):
            assemble("--drop-copies", *flags)
        assert list(tmp_path.iterdir()) == []


def test_a_corpus_is_replaced_and_nothing_else(assemble, tmp_path):
    out = tmp_path / "out"
    assemble()
    assemble("--corpus", "best-2")
    assert len(pairs_in(out / "text")) == 1200
    (out / "notes.txt").write_text("mine")
    with pytest.raises(
        UserError, match="out exists and is not a corpus written by nmt-kd assemble; choose another --output"
    ):
        assemble()
    assert len(pairs_in(out / "text")) == 1200


def test_the_working_folder_is_not_replaced(assemble, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--output \. is the working folder; name a folder inside it"):
        assemble("--output", ".")


def test_the_data_is_never_replaced(assemble, data):
    before = sorted(path.name for path in data.iterdir())
    with pytest.raises(UserError, match="exists and is not a corpus written by nmt-kd assemble"):
        assemble("--output", data)
    assert sorted(path.name for path in data.iterdir()) == before


class FullDisk:
    """Lets some bytes through, then the disk is full."""

    def __init__(self, file, room=2000):
        self.file, self.room = file, room

    def write(self, content):
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(content)


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(assemble, tmp_path, monkeypatch):
    init = writing.CorpusFiles.__init__
    monkeypatch.setattr(
        writing.CorpusFiles,
        "__init__",
        lambda self, files, *rest: init(self, tuple(map(FullDisk, files)), *rest),
    )
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device; free some disk space or choose"):
        assemble()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_during_binarisation_ends_in_one_line_and_leaves_nothing(assemble, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing.preprocess, "main", full)
    with pytest.raises(UserError, match=r"cannot write .*out: No space left on device"):
        assemble()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_while_sorting_names_the_decoded_folder(assemble, tmp_path, monkeypatch, decoding):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *args, **kwargs: open("/dev/full", "w"))  # noqa: SIM115
    with pytest.raises(UserError, match=f"cannot write {decoding}: No space left on device"):
        assemble()
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_the_source_may_be_split_in_another_way(decoding, data, tmp_path):
    originals = Originals.load(data, "en", "de", "train")
    source = originals.texts(7)[0]
    pieces = source.split()
    first = next(number for number, piece in enumerate(pieces) if len(piece.strip("\u2581")) > 1)
    split = [*pieces[:first], pieces[first][:-1], pieces[first][-1], *pieces[first + 1 :]]
    shutil.copytree(decoding, tmp_path / "copied")
    folder = ShardFolder(tmp_path / "copied")
    for block in range(len(block_sizes(folder))):
        found = list(folder.read(block))
        if any(sentence.id == 7 for sentence in found):
            hypotheses = [Hypothesis(0, " ".join(split))]
            folder.write(block, [replace(each, hypotheses=hypotheses) if each.id == 7 else each for each in found])
    corpus = Corpus(open_decodings(parse_folders([str(tmp_path / "copied")], "kd"), Student(data, "en", "de")))
    kept = Corpus(corpus.decodings, Filters(copies=True))
    assert len(list(corpus.candidates())) == len(list(kept.candidates())) + 1 == 600
    assert kept.report.dropped == {"copy of the source": 1}
