"""A Hugging Face model whose predictions for the references are cached."""

import sys

import pytest
import torch
from conftest import train_here
from transformers import M2M100ForConditionalGeneration, MarianMTModel, MarianTokenizer, NllbTokenizer
from translators.test_hugging_face import many_to_many

from nmt_kd.caching.sources import hugging_face
from nmt_kd.caching.store import read_store, sentences, task_of_data
from nmt_kd.cli import main
from nmt_kd.errors import UserError


@pytest.fixture(scope="module")
def flags(corpus, trained_marian):
    student = ["--hugging-face-student-subwords", str(corpus / "pieces/subwords.model")]
    return ["--source", "hugging-face", "--teacher-path", str(trained_marian), *student]


@pytest.fixture(scope="module")
def built(data, flags, tmp_path_factory):
    out = tmp_path_factory.mktemp("marian") / "out"
    main(["cache", str(data), *flags, "--top-k", "6", str(out)])
    return out


def test_predictions_are_those_of_the_model_for_the_same_subwords(built, data, trained_marian):
    """The Marian model has the student's subwords, in another order."""
    tokenizer, model = MarianTokenizer.from_pretrained(trained_marian), MarianMTModel.from_pretrained(trained_marian)
    task = task_of_data(str(data))
    symbols = task.target_dictionary.symbols
    for (source, target), found in zip(sentences(task, "valid"), read_store(built, task, "valid"), strict=True):
        read = ["".join(task.source_dictionary[token] for token in source[:-1])]
        written = ["".join(symbols[token] for token in target[:-1])]
        read, written = ([text.replace("\u2581", " ").strip() for text in texts] for texts in (read, written))
        batch = tokenizer(read, text_target=written, return_tensors="pt")
        with torch.no_grad():
            logits = model.eval()(**batch).logits[0]
        logits[:, tokenizer.pad_token_id] = -torch.inf
        log_q, words = logits.log_softmax(-1).topk(6)
        names = [tokenizer.convert_ids_to_tokens(row) for row in words.tolist()]
        assert [[symbols[word] for word in row] for row in found[0].tolist()] == names
        torch.testing.assert_close(found[1], log_q, rtol=2**-10, atol=1e-3)


def test_a_student_is_trained(built, data, tmp_path):
    criterion = ["--criterion", "word_kd", "--teacher-cache", built]
    run = train_here(data, tmp_path, *criterion, "--max-update", "30", "--disable-validation")
    divergence = run.values("train_inner", "kd_loss")
    assert divergence[-1] < 0.8 * divergence[0]


@pytest.fixture(scope="module")
def nllb(corpus, tmp_path_factory) -> str:
    tokenizer = NllbTokenizer(str(corpus / "pieces/subwords.model"))
    return many_to_many(tmp_path_factory.mktemp("nllb"), tokenizer)


def test_the_languages_of_nllb_are_read_but_not_predicted(nllb, corpus, data):
    student = str(corpus / "pieces/subwords.model")
    _, source = hugging_face.open_source(str(data), nllb, hugging_face.Options("eng_Latn", "deu_Latn", student))
    teacher = source.teacher
    texts, sources = ["der rote Tisch", "ein Hut", ""], ["the red table", "a hat", ""]
    targets = [teacher.read_target(text) for text in texts]
    assert [target.plain for target in targets] == texts
    read = [teacher.read_source(text) for text in sources]
    with torch.no_grad():
        found = teacher.top(read, targets, 5, torch.zeros(()))
    model = M2M100ForConditionalGeneration.from_pretrained(nllb).eval()
    tokenizer = NllbTokenizer.from_pretrained(nllb, src_lang="eng_Latn", tgt_lang="deu_Latn")
    start = 0
    for text, translation, target in zip(sources, texts, targets, strict=True):
        batch = tokenizer([text], text_target=[translation], return_tensors="pt")
        assert batch["labels"][0, 1:].tolist() == target.tokens  # after the language
        with torch.no_grad():
            logits = model(**batch).logits[0, 1:]
        logits[:, tokenizer.pad_token_id] = -torch.inf
        expected = logits.log_softmax(-1).topk(5).values
        end = start + len(target.tokens)
        torch.testing.assert_close(torch.from_numpy(found.log_q[start:end]), expected, rtol=0, atol=1e-4)
        start = end
    assert start == len(found.words)


def test_languages_that_the_model_does_not_have_are_refused(nllb, corpus, data):
    options = hugging_face.Options("eng_Latn", "ger_Latn", str(corpus / "pieces/subwords.model"))
    with pytest.raises(
        UserError, match=r"^--hugging-face-target-lang is ger_Latn, which .* does not have; similar ones"
    ):
        hugging_face.open_source(str(data), nllb, options)


def test_what_is_missing_is_named(data, corpus, trained_marian, monkeypatch, tmp_path):
    options = hugging_face.Options(hugging_face_student_subwords=str(corpus / "pieces/subwords.model"))
    with pytest.raises(UserError, match=r"^the subword model of the student's target text is needed; give it as --hug"):
        hugging_face.open_source(str(data), str(trained_marian), hugging_face.Options())
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"is a model of type bert; --teacher-path takes marian, m2m_100, mbart$"):
        hugging_face.open_source(str(data), str(tmp_path), options)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"^transformers is not installed; pip install 'nmt-kd\[huggingface\]'$"):
        hugging_face.open_source(str(data), str(trained_marian), options)
