"""A translator's subwords are those of the data it was trained on."""

import pytest

from nmt_kd.translators.subwords import Subwords


@pytest.mark.parametrize("space", ["\t", "\u00a0", "  ", "\u3000"])
def test_any_space_separates_words_with_bpe_codes(tmp_path, space):
    (tmp_path / "codes").write_text("#version: 0.2\nt h\nth e</w>\n", encoding="utf-8")
    subwords = Subwords(tmp_path / "codes")
    text = f"100{space}the{space}end"
    assert subwords.of_source(text) == subwords.of_target(text) == "1@@ 0@@ 0 the e@@ n@@ d".split()
