"""Wrong input is named in one line, and nothing is left behind."""

import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import train_here
from exports import SEARCH, export_student

from nmt_kd.errors import UserError
from nmt_kd.exporting.sample import Measurement


@pytest.fixture
def write(corpus, seq_kd_teacher, tmp_path):
    """An export to tmp_path/student, with some arguments changed."""
    output, measurement = tmp_path / "student", replace(SEARCH, sentences=3)
    return partial(export_student, corpus=corpus, checkpoint=seq_kd_teacher, output=output, measurement=measurement)


def test_a_folder_with_anything_else_is_refused(write, tmp_path, teacher_path):
    output = tmp_path / "student"
    write()
    with pytest.raises(UserError, match=r"is the export of another checkpoint, .*; give another --output"):
        write(checkpoint=teacher_path)
    (output / "int8").mkdir()
    (output / "int8/mine.txt").touch()
    with pytest.raises(UserError, match=r"contains int8/mine.txt, which nmt-kd export did not write; move it"):
        write()
    (output / "summary.json").write_text("[]")
    with pytest.raises(UserError, match="exists and was not written by nmt-kd export; give another --output"):
        write()
    with pytest.raises(UserError, match="is a file; --output must be a folder"):
        write(output=output / "summary.md")


def test_what_python_leaves_of_the_program_is_no_obstacle(write, tmp_path):
    write()
    cache = tmp_path / "student/__pycache__"
    cache.mkdir()
    (cache / "translate.cpython-312.pyc").touch()
    write()
    assert not cache.exists()


def test_a_folder_that_cannot_be_written_is_named(write, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/student"):
        write(output=tmp_path / "file/student")


def test_what_ctranslate2_cannot_convert_is_named(data, write, tmp_path):
    flags = ["--criterion", "cross_entropy", "--max-update", "1", "--disable-validation"]
    run = train_here(data, tmp_path / "lstm", *flags, architecture=["--arch", "lstm_wiseman_iwslt_de_en"])
    with pytest.raises(
        UserError, match=r"CTranslate2 cannot convert .*lstm.*'lstm_wiseman_iwslt_de_en' is not support"
    ):
        write(checkpoint=run.save_dir / "checkpoint_last.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["lstm"]


def test_other_dictionaries_are_refused(data, write, tmp_path):
    for name in ("longer", "reordered"):
        shutil.copytree(data, tmp_path / name)
    lines = (data / "dict.en.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "longer/dict.de.txt").write_text("\n".join([*lines, "more 1"]) + "\n", encoding="utf-8")
    (tmp_path / "reordered/dict.en.txt").write_text("\n".join(lines[::-1]) + "\n", encoding="utf-8")
    size = len(lines) + 4
    what_to_do = "; give --data the folder it was trained on$"
    with pytest.raises(
        UserError,
        match=rf"with another target dictionary, .*dict.de.txt, of {size} symbols; dict.de.txt in .* has {size + 1}; "
        f".* the shorter dictionary is the beginning of the longer{what_to_do}",
    ):
        write(data=str(tmp_path / "longer"))
    with pytest.raises(UserError, match=rf"another source dictionary, .* checkpoint / data: line 4: .*{what_to_do}"):
        write(data=str(tmp_path / "reordered"))
    with pytest.raises(UserError, match="data folder /none does not exist; give a folder"):
        write(data="/none")


def test_a_missing_installation_is_named(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UserError, match=r"it is not installed \(pip install 'nmt-kd\[ctranslate2\]'\)"):
        write()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": Path("/none.pt")}, "checkpoint /none.pt does not exist"),
        (
            {"checkpoint": Path("a.pt:b.pt")},
            "CTranslate2 cannot be used: it decodes with one model, not with an ensemble",
        ),
        ({"teacher": "/none.pt"}, "checkpoint /none.pt does not exist"),
        ({"compute_types": ["int4"]}, "--compute-types is int4; it must be int8, "),
        ({"measurement": Measurement(beam=0)}, "--beam is 0; it must be 1 or more"),
        ({"measurement": Measurement(sentences=-1)}, "--sentences is -1; it must be 0 or more"),
        ({"measurement": Measurement(gen_subset="test9")}, "has no test9.en-de; it has test, train, valid: choose"),
        ({"subword_model": Path("/none.model")}, "subword model /none.model does not exist; give the file"),
        ({"subword_model": Path(__file__)}, "is neither a sentencepiece model nor subword-nmt BPE codes; give"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_left(write, tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        write(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
