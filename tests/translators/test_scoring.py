"""What a translator says about given translations: log-probabilities summed token by token."""

import math

import pytest
import torch
from conftest import train_here
from exporting.exports import export_student
from transformers import MarianMTModel, MarianTokenizer

from nmt_kd.translators.opening import open_translator
from nmt_kd.translators.translator import TeacherOptions
from translators.teachers import lines, shortest_pairs


@pytest.fixture(scope="session")
def pairs(corpus):
    """Test sentences with their references, and with those of others."""
    sources, targets = (lines(corpus / f"text/test.{language}") for language in ("en", "de"))
    return [*zip(sources, targets, strict=True), *zip(sources, targets[1:] + targets[:1], strict=True)]


def scored(translator, pairs) -> list[float]:
    return translator.score([source for source, _ in pairs], [target for _, target in pairs])


@pytest.fixture(scope="module")
def fairseq(corpus, data, seq_kd_teacher):
    def fairseq(teacher=seq_kd_teacher, **options):
        model = corpus / "pieces/subwords.model"
        return open_translator(TeacherOptions(str(teacher), data=str(data), subword_model=model, **options))

    return fairseq


def direct(translator, source, target) -> float:
    """The mean log-probability of the tokens of one translation, by the probabilities that the models average."""
    task, split = translator.task, translator.subwords
    tokens = task.source_dictionary.encode_line(" ".join(split.of_source(source)), add_if_not_exist=False).long()
    gold = task.target_dictionary.encode_line(" ".join(split.of_target(target)), add_if_not_exist=False).long()
    before = torch.cat([gold[-1:], gold[:-1]])
    with torch.no_grad():
        outputs = [model(tokens[None], torch.tensor([len(tokens)]), before[None])[0][0] for model in translator.models]
    p = sum(output.softmax(-1) for output in outputs) / len(outputs)
    return p.log()[torch.arange(len(gold)), gold].mean().item()


def test_a_fairseq_checkpoint_scores_as_a_direct_sum(fairseq, pairs):
    translator = fairseq()
    found = scored(translator, pairs)
    assert found == pytest.approx([direct(translator, *pair) for pair in pairs], abs=1e-5)
    half = len(pairs) // 2
    assert sum(found[:half]) > sum(found[half:])


def test_an_ensemble_averages_probabilities(fairseq, pairs, seq_kd_teacher, data, tmp_path):
    other = train_here(data, tmp_path, "--criterion", "cross_entropy", "--max-update", "5", "--seed", "8").save_dir
    translator = fairseq(f"{seq_kd_teacher}:{other / 'checkpoint_last.pt'}")
    assert len(translator.models) == 2
    assert scored(translator, pairs) == pytest.approx([direct(translator, *pair) for pair in pairs], abs=1e-5)


@pytest.mark.parametrize("kind", ["fairseq", "ctranslate2"])
def test_a_pair_that_is_too_long_is_the_worst_and_the_order_is_that_of_the_input(kind, fairseq, exported, pairs):
    translator = fairseq() if kind == "fairseq" else exported
    long = " ".join(["table"] * 1500)
    expected = scored(translator, pairs)
    mixed = [(pairs[0][0], long), *pairs[::-1], (long, pairs[0][1])]
    found = scored(translator, mixed)
    assert found[0] == found[-1] == -math.inf
    assert found[1:-1] == pytest.approx(expected[::-1], abs=1e-5)
    assert scored(translator, []) == []


@pytest.fixture(scope="module")
def exported(corpus, seq_kd_teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "student"
    export_student(corpus, seq_kd_teacher, folder)
    return open_translator(TeacherOptions(str(folder), source_lang="en", target_lang="de"))


def test_a_ctranslate2_folder_scores_as_fairseq_does(fairseq, exported, pairs):
    assert scored(exported, pairs) == pytest.approx(scored(fairseq(), pairs), abs=1e-4)


def test_a_hugging_face_model_scores_as_a_direct_sum(trained_marian, corpus):
    sources, targets = map(list, zip(*shortest_pairs(corpus)[:12], strict=True))
    pairs = [*zip(sources, targets, strict=True), *zip(sources, targets[1:] + targets[:1], strict=True)]
    tokenizer, model = MarianTokenizer.from_pretrained(trained_marian), MarianMTModel.from_pretrained(trained_marian)
    expected = []
    for source, target in pairs:
        batch = tokenizer([source], text_target=[target], return_tensors="pt")
        with torch.no_grad():
            log_p = model.eval()(**batch).logits[0, :, :-1].log_softmax(-1)  # without <pad>, which is no symbol
        expected.append(log_p.gather(1, batch["labels"][0][:, None]).mean().item())
    found = scored(open_translator(TeacherOptions(str(trained_marian))), pairs)
    assert found == pytest.approx(expected, abs=2e-3)


def test_a_translators_own_hypotheses_have_their_search_scores(fairseq, exported, corpus):
    """Beam search with length penalty 1 ranks by the same mean."""
    sources = lines(corpus / "text/test.en")
    for translator in (fairseq(), exported):
        lists = translator.translate(sources, 1)
        pairs = [(source, found[0].text) for source, found in zip(sources, lists, strict=True)]
        close = [
            abs(score - found[0].score) < 1e-3 for score, found in zip(scored(translator, pairs), lists, strict=True)
        ]
        assert sum(close) >= 0.7 * len(close)  # a search may find other subwords for the same text
