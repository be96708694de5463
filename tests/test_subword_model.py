"""Subword models are recognised, and checked against the data."""

import pytest
import subwords
from exporting.exports import export_student

from nmt_kd.errors import UserError
from nmt_kd.subword_model import SubwordModel


def test_another_subword_model_is_refused(corpus, seq_kd_teacher, tmp_path):
    subwords.train_subwords([corpus / "text/train.en"], tmp_path / "other", 90)
    with pytest.raises(UserError, match=r"splits only 0 of 13 sentences as in .*; give the model that split this"):
        export_student(corpus, seq_kd_teacher, tmp_path / "out", subword_model=tmp_path / "other.model")


def test_bpe_codes_are_recognised(tmp_path):
    (tmp_path / "codes").write_text("#version: 0.2\ne r\ner n</w>\n", encoding="utf-8")
    model = SubwordModel.read(tmp_path / "codes")
    assert (model.kind, model.file_name) == ("subword_nmt", "subwords.codes")
    assert model.text("the tra@@ in@@ s leave") == "the trains leave"


@pytest.mark.parametrize("merge", ["\x85 </w>", "\u2028 a", "e r"])
def test_merges_may_contain_other_line_separators(tmp_path, merge):
    (tmp_path / "codes").write_text(f"#version: 0.2\n{merge}\ner n</w>\n", encoding="utf-8")
    assert SubwordModel.read(tmp_path / "codes").kind == "subword_nmt"
