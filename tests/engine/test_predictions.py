import pytest
import torch
from plain import Plain

from nmt_kd.engine.distribution import WholeDistribution
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.predictions import (
    DeclaredPredictions,
    EmptyPredictions,
    FullDistribution,
    HiddenStates,
    TopWords,
    UndeclaredNeedError,
)
from nmt_kd.engine.teacher import Teacher

EVERYTHING = slice(None)


@pytest.fixture
def predictions(teacher_path, task, sample):
    index = target_token_index(sample["target"], task.target_dictionary.pad())
    return Teacher.load(str(teacher_path), task).read(sample, index, torch.zeros(()))


def test_top_words_give_away_no_more_words_than_declared(predictions):
    live, declared = (
        source.predict(EVERYTHING) for source in (predictions, DeclaredPredictions(predictions, TopWords(3)))
    )
    for ours, theirs in zip(declared.top(3), live.top(3), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(declared.first_choice, live.first_choice)
    assert torch.equal(declared.confidence, live.confidence)
    assert torch.equal(declared.nll(live.first_choice), live.nll(live.first_choice))
    log_p = torch.zeros_like(live.log_q).log_softmax(-1)
    assert torch.equal(
        declared.divergence(Plain(log_p)), live.divergence(Plain(log_p))
    )  # as exact as the teacher can tell
    assert declared.vocabulary_size == live.vocabulary_size
    assert not hasattr(declared, "log_q")
    for ask in (declared.top, declared.coarse):
        with pytest.raises(UndeclaredNeedError, match=r"top 4 words; declare needs = TopWords\(4\)"):
            ask(4)


def test_all_of_the_distribution_is_there_where_it_is_declared(predictions):
    for need in (FullDistribution(), HiddenStates()):
        found = DeclaredPredictions(predictions, need).predict(EVERYTHING)
        assert isinstance(found, WholeDistribution)
        assert found.log_q.shape == found.logits.shape


@pytest.mark.parametrize("need", [TopWords(1), FullDistribution(), HiddenStates()])
def test_new_prefixes_and_hidden_states_must_be_declared(predictions, sample, need):
    declared, inputs = DeclaredPredictions(predictions, need), sample["net_input"]["prev_output_tokens"]
    with pytest.raises(UndeclaredNeedError, match="at_new_prefixes=True"):
        declared.decode(inputs)
    again = DeclaredPredictions(predictions, _at_new_prefixes(need))
    torch.testing.assert_close(again.decode(inputs).predict(EVERYTHING).first_choice, declared.first_choices())
    if isinstance(need, HiddenStates):
        assert len(declared.outputs[0].encoder_states) == 2
        return
    with pytest.raises(UndeclaredNeedError, match=r"declare needs = HiddenStates\(\)"):
        _ = declared.outputs


def _at_new_prefixes(need):
    return type(need)(**{**vars(need), "at_new_prefixes": True})


def test_no_tokens_have_no_predictions(predictions):
    empty = EmptyPredictions(predictions)
    assert empty.first_choices().shape == (0,)
    assert empty.predict(slice(3, 7)).first_choice.shape == (0,)


def test_no_tokens_have_no_predictions_at_new_prefixes_or_from_hidden_states(predictions, sample):
    need = HiddenStates(at_new_prefixes=True)
    empty = EmptyPredictions(DeclaredPredictions(predictions, need))
    assert empty.decode(sample["net_input"]["prev_output_tokens"]).first_choices().shape == (0,)
    (output,), (whole,) = empty.outputs, predictions.outputs
    assert output.token_index.shape == (0,)
    assert output.projection.features.shape == (0, whole.projection.features.size(1))
    assert output.encoder_states is whole.encoder_states
