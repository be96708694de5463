"""Hugging Face models translate as `generate` does, into the language that is asked for."""

import json
import shutil

import pytest
import sentencepiece
import torch
from sacrebleu import corpus_chrf
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
)

from nmt_kd.errors import UserError
from nmt_kd.translators import hugging_face
from nmt_kd.translators.opening import open_translator
from nmt_kd.translators.search import Search
from nmt_kd.translators.translator import TeacherOptions
from translators.teachers import SEARCH, lines, marian, save, shortest_pairs, vocabulary_of


def generated(folder, sources) -> list[str]:
    tokenizer, model = MarianTokenizer.from_pretrained(folder), MarianMTModel.from_pretrained(folder).eval()
    inputs = tokenizer(sources, return_tensors="pt", padding=True)
    search = {"num_beams": SEARCH.beam, "length_penalty": SEARCH.lenpen, "early_stopping": True}
    found = model.generate(**inputs, **search, max_length=120)
    return tokenizer.batch_decode(found, skip_special_tokens=True)


def scores(folder, sources, translations) -> list[float]:
    """What the search maximises, by the Hugging Face model."""
    tokenizer, model = MarianTokenizer.from_pretrained(folder), MarianMTModel.from_pretrained(folder).eval()
    found = []
    for source, translation in zip(sources, translations, strict=True):
        batch = tokenizer([source], text_target=[translation], return_tensors="pt")
        with torch.no_grad():
            log_p = model(**batch).logits[0, :, :-1].log_softmax(-1)  # without <pad>, which is no symbol
        total = log_p.gather(1, batch["labels"][0][:, None]).sum().item()
        found.append(total / len(log_p) ** SEARCH.lenpen)
    return found


def test_a_marian_model_translates_as_generate_does_and_better_than_chance(trained_marian, corpus, converted):
    sources, references = map(list, zip(*shortest_pairs(corpus), strict=True))
    options = TeacherOptions(str(trained_marian), Search(SEARCH.beam, 2, SEARCH.lenpen, 120))
    teacher = open_translator(options)
    assert teacher.languages == ("en", "de")
    lists = teacher.translate(sources, seed=1)
    assert all(len(found) == 2 and found[0].score >= found[1].score for found in lists)
    ours, theirs = [found[0].text for found in lists], generated(trained_marian, sources)
    different = [number for number in range(len(sources)) if ours[number] != theirs[number]]
    assert len(different) <= 0.1 * len(sources)
    pick = [[texts[number] for number in different] for texts in (sources, ours, theirs)]
    for own, other in zip(
        scores(trained_marian, pick[0], pick[1]), scores(trained_marian, pick[0], pick[2]), strict=True
    ):
        assert own >= other - 0.05
    exact = scores(trained_marian, sources[:5], ours[:5])
    assert [found[0].score for found in lists[:5]] == pytest.approx(exact, abs=2e-3)
    shuffled = references[7:] + references[:7]
    assert corpus_chrf(ours, [references]).score > corpus_chrf(ours, [shuffled]).score + 20
    model = converted / teacher.settings["teacher"] / "model.bin"
    made = model.stat().st_mtime_ns
    assert open_translator(options).settings == teacher.settings
    assert model.stat().st_mtime_ns == made  # converted once


def test_a_changed_tokenizer_is_another_teacher(trained_marian, tmp_path, corpus):
    model, tokenizer = marian(tmp_path / "a", corpus / "pieces/subwords.model", source_lang="en", target_lang="de")
    save(tmp_path / "a", model, tokenizer)
    before = open_translator(TeacherOptions(str(tmp_path / "a"))).settings["teacher"]
    settings = json.loads((tmp_path / "a/tokenizer_config.json").read_text())
    (tmp_path / "a/tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 50}))
    changed = open_translator(TeacherOptions(str(tmp_path / "a")))
    assert changed.settings["teacher"] != before
    assert changed.longest_source == 50


@pytest.fixture(scope="module")
def multilingual(corpus, tmp_path_factory):
    """An untrained model that is told its language by a word before the source."""
    folder = tmp_path_factory.mktemp("multilingual")
    codes = [">>deu<<", ">>nld<<"]
    return save(folder, *marian(folder, corpus / "pieces/subwords.model", *codes, source_lang="eng"))


def test_a_marian_model_with_several_targets_is_told_which(multilingual):
    options = TeacherOptions(str(multilingual), SEARCH, target_lang="nld")
    teacher = open_translator(options)
    assert teacher.languages == ("eng", "nld")
    ids = teacher._encode(["the red table"])[0]
    assert teacher.tokenizer.convert_ids_to_tokens(ids)[0] == ">>nld<<"
    assert len(teacher.translate(["the red table"], 1)[0]) == 2


def many_to_many(folder, tokenizer) -> str:
    config = M2M100Config(
        vocab_size=len(tokenizer) + getattr(tokenizer, "num_madeup_words", 0),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=256,
        decoder_start_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(1)  # other weights may translate everything to nothing
    return str(save(folder, M2M100ForConditionalGeneration(config), tokenizer))


@pytest.fixture(scope="module")
def nllb(corpus, tmp_path_factory) -> str:
    tokenizer = NllbTokenizer(str(corpus / "pieces/subwords.model"))
    return many_to_many(tmp_path_factory.mktemp("nllb"), tokenizer)


@pytest.fixture(scope="module")
def m2m100(corpus, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("m2m100")
    model = corpus / "pieces/subwords.model"
    assert sentencepiece.SentencePieceProcessor(model_file=str(model)).get_piece_size() == 200
    return many_to_many(folder, M2M100Tokenizer(str(vocabulary_of(model, folder)), str(model)))


@pytest.mark.parametrize(
    ("name", "languages", "tag", "prefix"),
    [("nllb", ("eng_Latn", "deu_Latn"), "eng_Latn", "deu_Latn"), ("m2m100", ("en", "de"), "__en__", "__de__")],
)
def test_nllb_and_m2m100_are_told_both_languages(name, languages, tag, prefix, request, monkeypatch):
    teacher = open_translator(
        TeacherOptions(request.getfixturevalue(name), SEARCH, source_lang=languages[0], target_lang=languages[1])
    )
    asked = {}
    real = teacher.search.translate

    def translate(sources, seed, prefix, max_len):
        asked.update(sources=sources, prefix=prefix)
        return real(sources, seed, prefix, max_len)

    monkeypatch.setattr(teacher.search, "translate", translate)
    (found,) = teacher.translate(["the red table"], 1)
    assert asked["prefix"] == [prefix]
    (tokens,) = asked["sources"]
    assert (tokens[0], tokens[-1]) == (tag, "</s>")
    assert len(found) == 2
    assert not any(prefix in hypothesis.text for hypothesis in found)


def test_scores_are_of_the_text_and_not_of_its_language(nllb):
    teacher = open_translator(TeacherOptions(nllb, SEARCH, source_lang="eng_Latn", target_lang="deu_Latn"))
    model = M2M100ForConditionalGeneration.from_pretrained(nllb).eval()
    tokenizer = NllbTokenizer.from_pretrained(nllb, src_lang="eng_Latn", tgt_lang="deu_Latn")
    pairs, expected = [("the red table", "der rote Tisch"), ("a hat", "der"), ("the red hat .", "ein")], []
    for source, target in pairs:
        batch = tokenizer([source], text_target=[target], return_tensors="pt")
        assert tokenizer.convert_ids_to_tokens(batch["labels"][0])[0] == "deu_Latn"
        with torch.no_grad():
            log_p = model(**batch).logits[0].log_softmax(-1)
        expected.append(log_p.gather(1, batch["labels"][0][:, None])[1:].mean().item())
    found = teacher.score([source for source, _ in pairs], [target for _, target in pairs])
    assert found == pytest.approx(expected, abs=1e-3)


def test_m2m100_scores_the_tokens_of_the_text(m2m100):
    teacher = open_translator(TeacherOptions(m2m100, SEARCH, source_lang="en", target_lang="de"))
    (ids,) = teacher._encode_targets(["der rote Tisch"])
    assert teacher.tokenizer.convert_tokens_to_string(teacher.tokenizer.convert_ids_to_tokens(ids)) == "der rote Tisch"
    one, other = teacher.score(["the red table"] * 2, ["der rote Tisch", "der"])
    assert one < 0 and other < 0 and one != other  # noqa: PT018


def test_nllb_translates_as_generate_does(nllb):
    teacher = open_translator(TeacherOptions(nllb, SEARCH, source_lang="eng_Latn", target_lang="deu_Latn"))
    model = M2M100ForConditionalGeneration.from_pretrained(nllb).eval()
    tokenizer = NllbTokenizer.from_pretrained(nllb, src_lang="eng_Latn")
    found = model.generate(
        **tokenizer(["the red table"], return_tensors="pt"),
        forced_bos_token_id=tokenizer.convert_tokens_to_ids("deu_Latn"),
        num_beams=SEARCH.beam,
        length_penalty=SEARCH.lenpen,
        max_new_tokens=10,
        early_stopping=True,
    )
    theirs = tokenizer.batch_decode(found, skip_special_tokens=True)[0].strip()
    ours = teacher.translate(["the red table"], 1)[0][0].text
    assert ours[: len(theirs) // 2] == theirs[: len(theirs) // 2] != ""


@pytest.mark.parametrize(
    ("name", "languages", "message"),
    [
        ("nllb", ("en", "deu_Latn"), r"--source-lang is en, which .* does not have; similar ones are eng_Latn"),
        ("nllb", ("eng_Latn", "ger_Latn"), r"--target-lang is ger_Latn, .*; similar ones are "),
        ("m2m100", ("en", "deu"), r"--target-lang is deu, which .* does not have; similar ones are de"),
        ("multilingual", ("eng", "de"), "--target-lang is de, which .* does not have; similar ones are deu"),
        ("multilingual", ("eng", None), "the languages of .* are unknown; give --source-lang and --target-lang"),
        ("nllb", (None, None), "the languages of .* are unknown"),
        ("trained_marian", ("de", "en"), "--source-lang is de, but .* has only en there; give en or another"),
    ],
)
def test_languages_that_the_model_does_not_have_are_named(name, languages, message, request):
    folder = str(request.getfixturevalue(name))
    with pytest.raises(UserError, match=message):
        open_translator(TeacherOptions(folder, source_lang=languages[0], target_lang=languages[1]))


def test_other_kinds_of_models_and_broken_ones_are_refused(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is a model of type bert; --teacher takes marian, m2m_100, mbart"):
        open_translator(TeacherOptions(str(tmp_path)))
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')
    with pytest.raises(UserError, match="cannot be read as a Hugging Face model: "):
        open_translator(TeacherOptions(str(tmp_path)))


def test_a_model_that_ctranslate2_would_start_wrongly_is_refused(corpus, tmp_path):
    model, tokenizer = marian(tmp_path, corpus / "pieces/subwords.model", source_lang="en", target_lang="de")
    model.model.shared.weight.data[tokenizer.pad_token_id] = 0.1
    save(tmp_path, model, tokenizer)
    with pytest.raises(UserError, match="its <pad> embedding is not zero, as after fine-tuning in Hugging Face; give"):
        open_translator(TeacherOptions(str(tmp_path)))


def test_missing_weights_are_named_and_leave_no_model_behind(multilingual, tmp_path, converted):
    shutil.copytree(multilingual, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    before = sorted(converted.iterdir())
    with pytest.raises(UserError, match=r"CTranslate2 cannot convert .*/model: .*no file named"):
        open_translator(TeacherOptions(str(tmp_path / "model"), target_lang="deu"))
    assert sorted(converted.iterdir()) == before


def test_names_of_the_hub_are_recognised_and_paths_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hugging_face.recognises("Helsinki-NLP/opus-mt-en-de")
    assert not any(
        map(hugging_face.recognises, ("runs/teacher.pt", "teacher", "/runs/teacher", "runs/a/b", str(tmp_path)))
    )


def test_samples_differ_and_depend_on_the_seed_alone(trained_marian, corpus, monkeypatch):
    # threads that wait for each other take long on a busy machine
    monkeypatch.setattr("nmt_kd.decoding.ctranslate2_backend.usable_cores", lambda: 1)
    sources = lines(corpus / "text/test.en")
    search = Search(nbest=3, sampling_topk=10, sampling_temperature=0.8, max_len=40)
    teacher = open_translator(TeacherOptions(str(trained_marian), search))
    first = teacher.translate(sources, 5)
    teacher.translate(sources[:4], 6)
    assert teacher.translate(sources, 5) == first != teacher.translate(sources, 7)
    assert any(len({hypothesis.text for hypothesis in found}) == 3 for found in first)
