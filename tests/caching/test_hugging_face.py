"""A Hugging Face model whose predictions for the references are cached."""

import pytest
import torch
from conftest import train_here
from transformers import MarianMTModel, MarianTokenizer

from nmt_kd.caching.store import read_store, sentences, task_of_data
from nmt_kd.cli import main


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
