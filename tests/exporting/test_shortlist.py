"""A shortlist allows the words that a source word is aligned with; exports measure it and use it if it loses little."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
from exports import export_student

from nmt_kd.errors import UserError
from nmt_kd.exporting import faithfulness, shortlist
from nmt_kd.exporting.shortlist import from_alignments


class Aligner:
    """Stands in for eflomal: every word is aligned with the word at its place."""

    def align(self, sources, targets, links_filename_fwd, links_filename_rev, quiet):
        with open(links_filename_fwd, "w") as forward, open(links_filename_rev, "w") as reverse:
            for source, target in zip(sources, targets, strict=True):
                length = min(len(source.split()), len(target.split()))
                forward.write(" ".join(f"{place}-{place}" for place in range(length)) + "\n")
                reverse.write("\n")


def test_words_are_listed_by_how_often_they_are_aligned(monkeypatch):
    monkeypatch.setattr(shortlist, "FOR_ALL", 2)
    monkeypatch.setattr(shortlist, "FOR_EACH", 1)
    sources, targets = ["a dog", "a cat", "a"], ["ein Hund .", "eine Katze .", "eine"]
    forward, reverse = ["0-0 1-1", "0-0 1-1", "0-0"], ["0-0 1-1 1-2", "0-0", ""]
    text = from_alignments(sources, targets, forward, reverse)
    assert text == "\t. eine\na\teine\ncat\tKatze\ndog\tHund\n"


def test_an_export_measures_and_ships_it(corpus, data, seq_kd_teacher, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "eflomal", SimpleNamespace(Aligner=Aligner))
    monkeypatch.setattr(shortlist, "FOR_ALL", 10_000)  # allows everything
    monkeypatch.setattr(faithfulness, "LARGEST_LOSS", 5)  # ties may be resolved differently
    out = tmp_path / "out"
    summary = export_student(corpus, seq_kd_teacher, out, shortlist_corpus=str(data))
    _, plain, listed = summary.results
    assert [plain.shortlist, listed.shortlist] == [False, True]
    assert listed.system == summary.recommended == "student, CTranslate2 float32, shortlist"
    assert listed.bleu == pytest.approx(plain.bleu, abs=5)
    assert listed.megabytes_on_disk - plain.megabytes_on_disk == pytest.approx(
        (out / "float32/vmap.txt").stat().st_size / 1e6
    )
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["model"], settings["shortlist"]) == ("float32", True)


def test_a_list_that_lacks_words_changes_the_translations(corpus, data, seq_kd_teacher, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "eflomal", SimpleNamespace(Aligner=Aligner))
    monkeypatch.setattr(shortlist, "from_alignments", lambda *texts: "\t.\n")
    summary = export_student(corpus, seq_kd_teacher, tmp_path / "out", shortlist_corpus=str(data))
    _, plain, listed = summary.results
    assert listed.bleu < plain.bleu
    assert summary.recommended == plain.system
    assert any(note.startswith("student, CTranslate2 float32, shortlist loses ") for note in summary.notes)


@pytest.mark.parametrize("installed", [True, False])
def test_a_missing_corpus_or_library_is_named(corpus, seq_kd_teacher, tmp_path, monkeypatch, installed):
    monkeypatch.setitem(sys.modules, "eflomal", SimpleNamespace(Aligner=Aligner) if installed else None)
    expected = "has no train.en-de and no other binarised text" if installed else "--shortlist needs eflomal; pip"
    with pytest.raises(UserError, match=expected):
        export_student(corpus, seq_kd_teacher, tmp_path / "out", shortlist_corpus=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_with_other_dictionaries_is_refused(corpus, data, seq_kd_teacher, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "eflomal", SimpleNamespace(Aligner=Aligner))
    other = shutil.copytree(data, tmp_path / "other")
    path = other / "dict.de.txt"
    path.write_text("".join(reversed(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")
    with pytest.raises(UserError, match=r"dict\.de\.txt is not the student's dictionary; give --shortlist a folder "):
        export_student(corpus, seq_kd_teacher, tmp_path / "out", shortlist_corpus=str(other))
