"""The program of an export: lines keep their order, blank ones stay blank, and long ones are translated in parts."""

import io
import json
import sys
from types import SimpleNamespace

import pytest
from subword_nmt.apply_bpe import BPE

from nmt_kd.exporting import translate
from nmt_kd.exporting.translate import Student
from nmt_kd.subword_model import SubwordModel

SETTINGS = {
    "model": "int8",
    "shortlist": True,
    "subwords": "subwords.codes",
    "beam": 4,
    "length_penalty": 0.6,
    "longest_source": 5,
    "longest_translation": 200,
    "source_language": "en",
    "target_language": "de",
}


class Reverser:
    """Stands in for CTranslate2's translator: each word is reversed."""

    def __init__(self, path, **options):
        self.path, self.options, self.calls = path, options, []

    def translate_batch(self, sentences, **options):
        self.calls.append((sentences, options))
        return [SimpleNamespace(hypotheses=[[word[::-1] for word in sentence]]) for sentence in sentences]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An export whose subwords are words."""
    monkeypatch.setattr("ctranslate2.Translator", Reverser)
    monkeypatch.setattr(translate, "_subwords", lambda path: (str.split, " ".join))
    monkeypatch.setattr(translate, "FOLDER", tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def run(monkeypatch, text, *flags):
    """Run the program; return what it writes."""
    monkeypatch.setattr(sys, "argv", ["translate.py", *flags])
    given, written = io.BytesIO(text.encode()), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=given, isatty=lambda: False))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=written))
    translate.main()
    return written.getvalue().decode()


def test_blank_lines_stay_blank_and_lines_keep_their_order(folder, monkeypatch):
    assert run(monkeypatch, "ab cd\n\n  \nef\r\nlast", "--lines", "2") == "ba dc\n\n\nfe\ntsal\n"
    assert run(monkeypatch, "") == ""


def test_only_a_line_feed_ends_a_line(folder, monkeypatch):
    assert run(monkeypatch, "ab\u2028cd\x0bef\n") == "ba dc fe\n"


def test_a_long_line_is_split_at_the_ends_of_sentences_and_joined_again(folder):
    student = Student(folder)
    assert student.translate(["It is 3.5 m. He left! (Did he?) Yes."]) == ["tI si 5.3 .m eH !tfel diD( )?eh .seY"]
    ((sentences, _),) = student.translator.calls
    assert [" ".join(words) for words in sentences] == ["It is 3.5 m.", "He left!", "(Did he?)", "Yes."]


def test_a_line_that_fits_is_not_split(folder):
    student = Student(folder)
    student.translate(["One. Two. Three."])
    assert student.translator.calls[0][0] == [["One.", "Two.", "Three."]]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a b c, d e, f g h", ["a b c, d e,", "f g h"]),  # as much as fits
        ("a b c d e f g", ["a b c d e", "f g"]),
        ("a b c d e f, g. H i j", ["a b c d e", "f,", "g.", "H i j"]),
    ],
)
def test_a_sentence_that_is_too_long_is_split_at_commas_or_else_between_words(folder, text, parts):
    student = Student(folder)
    student.translate([text])
    assert [" ".join(words) for words in student.translator.calls[0][0]] == parts


def test_what_cannot_be_split_is_cut(folder, monkeypatch):
    monkeypatch.setattr(translate, "_subwords", lambda path: (list, "".join))
    assert Student(folder).translate(["abcdefghijkl"]) == ["abcde fghij kl"]


@pytest.mark.parametrize(("language", "expected"), [("de", "甲乙。 丙丁。"), ("zh", "甲乙。丙丁。")])
def test_parts_are_joined_as_the_target_language_does(folder, monkeypatch, language, expected):
    (folder / "settings.json").write_text(json.dumps({**SETTINGS, "target_language": language}))
    monkeypatch.setattr(translate, "_subwords", lambda path: (list, "".join))
    assert Student(folder).translate(["甲乙。丙丁。"]) == [expected]


def test_options_reach_the_translator(folder, monkeypatch):
    student = Student(folder, "float32", beam=1, threads=3)
    assert student.translator.path == str(folder / "float32")
    assert student.translator.options == {"device": "cpu", "inter_threads": 3, "intra_threads": 1}
    student.translate(["a"])
    options = student.translator.calls[0][1]
    assert (options["beam_size"], options["length_penalty"], options["use_vmap"]) == (1, 0.6, False)


def test_a_shortlist_is_used_where_there_is_one(folder):
    (folder / "int8").mkdir()
    (folder / "int8/vmap.txt").touch()
    assert Student(folder).search["use_vmap"]
    assert not Student(folder, shortlist=False).search["use_vmap"]
    assert not Student(folder, "float32").search["use_vmap"]


def test_text_in_subwords_is_neither_split_nor_joined(folder, monkeypatch):
    assert run(monkeypatch, "ab c. De f. Gh ij\n\n", "--subwords") == "ba .c eD .f hG ji\n\n"


def test_bpe_codes_split_and_join_words(tmp_path):
    (tmp_path / "subwords.codes").write_text("#version: 0.2\ne r\ner n</w>\n", encoding="utf-8")
    split, join = translate._subwords(tmp_path / "subwords.codes")
    assert split("fern er") == ["f@@", "ern", "e@@", "r"]
    assert join(["f@@", "ern", "e@@", "r"]) == "fern er"
    assert join(["er", "f@@"]) == "er f"  # cut at the longest length, as fairseq joins it


def test_bpe_codes_ignore_other_spaces(tmp_path):
    (tmp_path / "subwords.codes").write_text("#version: 0.2\ne r</w>\n", encoding="utf-8")
    split, _ = translate._subwords(tmp_path / "subwords.codes")
    assert split("\u3000er\ter  r") == ["er", "er", "r"]


def test_bpe_codes_forget_words_when_they_have_seen_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(translate, "MAX_CACHED_WORDS", 2)
    made = []
    monkeypatch.setattr("subword_nmt.apply_bpe.BPE", lambda codes, real=BPE: made.append(real(codes)) or made[0])
    (tmp_path / "subwords.codes").write_text("#version: 0.2\ne r\n", encoding="utf-8")
    split, _ = translate._subwords(tmp_path / "subwords.codes")
    for word in ("ab", "cd", "ef", "gh"):
        split(word)
    assert list(made[0].cache) == ["gh"]


def test_sentencepiece_joins_as_fairseq_does(corpus):
    path = corpus / "pieces/subwords.model"
    split, join = translate._subwords(path)
    assert join(split("the dog runs")) == "the dog runs"
    unknown = ["\u2581ein", "\u2581unbekanntes", "\u2581", "\U0001f600", "<unk>", "</s>"]
    assert join(unknown) == SubwordModel.read(path).text(" ".join(unknown)) == "ein unbekanntes \U0001f600<unk></s>"


@pytest.mark.parametrize("flags", [("--threads", "0"), ("--lines", "-1"), ("--beam", "0")])
def test_numbers_below_one_are_refused(folder, monkeypatch, capsys, flags):
    with pytest.raises(SystemExit):
        run(monkeypatch, "ab", *flags)
    assert capsys.readouterr().err.endswith("error: --threads, --lines and --beam must be 1 or more\n")


def test_a_missing_library_is_named_with_what_installs_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(
        SystemExit, match=r"^translate.py: error: .*ctranslate2.*; run: pip install -r .*requirements.txt"
    ):
        run(monkeypatch, "ab")


def test_a_missing_file_is_an_error_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(translate, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=r"^translate.py: error: .*settings.json"):
        run(monkeypatch, "a\n")
