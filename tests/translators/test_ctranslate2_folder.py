"""CTranslate2 folders as teachers: exports with the subword model beside, others with the one that is named."""

import json
import shutil
from dataclasses import replace

import pytest
from exporting.exports import export_student
from tasks.test_seq_kd import decode as decode_binarised

from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.errors import UserError
from nmt_kd.translators.opening import open_translator
from nmt_kd.translators.search import Search
from nmt_kd.translators.translator import TeacherOptions
from translators.teachers import SEARCH, lines

LANGUAGES = {"source_lang": "en", "target_lang": "de"}


@pytest.fixture(scope="module")
def exported(corpus, seq_kd_teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "student"
    export_student(corpus, seq_kd_teacher, folder, compute_types=["int8", "float32"])
    return folder


def test_an_export_finds_what_seq_kd_finds_with_ctranslate2(exported, corpus, data, seq_kd_teacher, tmp_path):
    teacher = open_translator(TeacherOptions(str(exported), replace(SEARCH, max_len=150), **LANGUAGES))
    assert (teacher.settings["teacher_kind"], teacher.settings["precision"]) == ("ctranslate2", "float32")
    ours = teacher.translate(lines(corpus / "text/valid.en"), 1)
    flags = ["--gen-subset", "valid", "--distill-backend", "ctranslate2", "--max-len-b", "150"]
    decode_binarised(data, tmp_path, seq_kd_teacher, *flags)
    theirs = [decoded.hypotheses for decoded in in_order(ShardFolder(tmp_path))]
    same = 0
    for found, expected in zip(ours, theirs, strict=True):
        texts = [item.text.replace(" ", "").replace("\u2581", " ").strip() for item in expected]
        same += [item.text for item in found] == texts
    cut = teacher.counts["translations cut at --max-len"]  # seq_kd decodes those again with fairseq
    assert same >= len(ours) - cut - 1
    assert same >= len(ours) // 2


def test_the_compute_type_chooses_the_model_of_an_export(exported):
    kinds = ("default", "int8", "float32")
    settings = [
        open_translator(TeacherOptions(str(exported), compute_type=kind, **LANGUAGES)).settings for kind in kinds
    ]
    assert [each["precision"].split("_")[0] for each in settings] == ["float32", "int8", "float32"]
    assert settings[0]["teacher"] == settings[2]["teacher"] != settings[1]["teacher"]
    inside = open_translator(TeacherOptions(str(exported / "int8"), **LANGUAGES))
    assert inside.settings["teacher"] == settings[1]["teacher"]


def test_another_folder_needs_its_subword_model(exported, corpus, tmp_path):
    shutil.copytree(exported / "float32", tmp_path / "model")
    with pytest.raises(UserError, match=r"the subword model of .*model is needed; give it as --subword-model"):
        open_translator(TeacherOptions(str(tmp_path / "model"), **LANGUAGES))
    named = corpus / "pieces/subwords.model"
    (tmp_path / "codes").write_text("#version: 0.2\ne r\ner n</w>\n", encoding="utf-8")
    both = TeacherOptions(
        str(tmp_path / "model"), SEARCH, subword_model=named, target_subword_model=tmp_path / "codes", **LANGUAGES
    )
    teacher = open_translator(both)
    assert teacher.settings["source_subwords"] != teacher.settings["target_subwords"]
    (found,) = teacher.translate(["The red table costs two euros."], 1)
    assert "\u2581" in found[0].text  # the codes join no sentencepiece symbols


def test_unknown_symbols_are_left_out_and_counted(exported, monkeypatch):
    teacher = open_translator(TeacherOptions(str(exported), **LANGUAGES))
    monkeypatch.setattr(teacher.search, "translate", lambda tokens, seed: [[(-1.0, ["\u2581ein", "<unk>", "e"])]])
    assert teacher.translate(["a"], 1)[0][0].text == "eine"
    assert teacher.counts["unknown symbols left out of translations"] == 1


def test_samples_depend_on_the_seed_alone(exported, corpus, monkeypatch):
    # threads that wait for each other take long on a busy machine
    monkeypatch.setattr("nmt_kd.decoding.ctranslate2_backend.usable_cores", lambda: 1)
    teacher = open_translator(TeacherOptions(str(exported), Search(nbest=2, sampling_topk=0, max_len=20), **LANGUAGES))
    sources = lines(corpus / "text/test.en")
    first = teacher.translate(sources, 5)
    assert teacher.translate(sources, 5) == first != teacher.translate(sources, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the languages of .* are unknown; give --source-lang and --target-lang"),
        ({"data": "x", **LANGUAGES}, "--data does not apply to .*, which is a folder with a CTranslate2 model, or"),
        ({"compute_type": "int3", **LANGUAGES}, "CTranslate2 cannot load .*: Invalid compute type"),
    ],
)
def test_options_that_do_not_fit_are_named(exported, options, message):
    with pytest.raises(UserError, match=message):
        open_translator(TeacherOptions(str(exported), **options))


def test_a_source_that_the_model_cannot_read_is_one_line(exported):
    teacher = open_translator(TeacherOptions(str(exported), **LANGUAGES))
    with pytest.raises(
        UserError, match=r"CTranslate2 cannot translate: .*; if a source is too long, lower --max-source"
    ):
        teacher.translate(["the red table " * 1000], 1)


def test_a_folder_that_came_from_hugging_face_lacks_its_tokenizer(exported, tmp_path):
    shutil.copytree(exported / "float32", tmp_path / "model")
    config = {"add_source_eos": False, "decoder_start_token": "</s>", "eos_token": "</s>"}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="was converted from a Hugging Face model and lacks its tokenizer; give that"):
        open_translator(TeacherOptions(str(tmp_path / "model"), **LANGUAGES))
