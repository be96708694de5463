import pytest
import torch
from conftest import TINY_TRANSFORMER, parse_training

from nmt_kd.engine.models import run_model, target_token_index

PADDING = 1


@pytest.mark.parametrize(
    "architecture",
    [
        TINY_TRANSFORMER,
        ["--arch", "transformer_iwslt_de_en", "--share-decoder-input-output-embed"],
        ["--arch", "lstm_wiseman_iwslt_de_en"],
        ["--arch", "lstm", "--share-all-embeddings"],
        ["--arch", "fconv_iwslt_de_en"],
        ["--arch", "lightconv_iwslt_de_en", "--decoder-conv-dim", "512"],
    ],
    ids=["tied", "half-tied", "lstm", "tied-lstm", "fconv", "lightconv"],
)
def test_features_times_projection_are_the_models_own_logits(architecture, data, task, sample):
    model = task.build_model(parse_training([data, *architecture]).model).eval()
    token_index = target_token_index(sample["target"], PADDING)
    expected, _ = model(**sample["net_input"])
    found = run_model(model, sample["net_input"], token_index)
    projection = found.projection
    logits = projection.logits(slice(None))
    torch.testing.assert_close(logits, expected.flatten(0, 1)[token_index])
    assert projection.vocabulary_size == len(task.target_dictionary)
    again, _ = model(**sample["net_input"])
    torch.testing.assert_close(again, expected)  # the model is left as it was

    other_inputs = sample["net_input"]["prev_output_tokens"].roll(1, 0)
    decoded_again = found.decode(other_inputs).projection.logits(slice(None))
    expected_again, _ = model(**{**sample["net_input"], "prev_output_tokens": other_inputs})
    torch.testing.assert_close(decoded_again, expected_again.flatten(0, 1)[token_index])


def test_padding_and_prefixes_do_not_count():
    target = torch.tensor([[5, 6, 2], [7, 2, PADDING], [PADDING] * 3])
    assert target_token_index(target, PADDING).tolist() == [0, 1, 2, 3, 4]
    assert target_token_index(target, PADDING, ignore_prefix_size=1).tolist() == [1, 2, 4]
    assert target_token_index(target, PADDING, ignore_prefix_size=9).tolist() == []
