import socket

import pytest
import torch
from conftest import TINY_TRANSFORMER, parse_training
from fairseq.distributed import ModuleProxyWrapper
from torch.nn.parallel import DistributedDataParallel

from nmt_kd.engine.models import run_model, target_token_index
from nmt_kd.errors import UserError

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


@pytest.fixture
def group_of_one():
    """A group of one worker, in which torch's wrapper works as with several."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_torchs_wrapper_for_workers_finds_an_untied_output_layer_when_it_searches_for_unused_parameters(
    build, sample, group_of_one
):
    """It fails at the gradient of a parameter that is not in the graph of the model's output."""
    untied = [flag for flag in TINY_TRANSFORMER if flag != "--share-all-embeddings"]
    criterion, student = build("word_kd", architecture=untied)
    criterion(student, sample)[0].backward()
    expected = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    student.zero_grad()
    wrapped = ModuleProxyWrapper(DistributedDataParallel(student, find_unused_parameters=True))
    for _ in range(2):  # it complains at the second update too
        student.zero_grad()
        criterion(wrapped, sample)[0].backward()
    torch.testing.assert_close({name: parameter.grad for name, parameter in student.named_parameters()}, expected)


@pytest.mark.parametrize("arch", ["cmlm_transformer", "levenshtein_transformer"])
def test_a_model_that_does_not_predict_word_by_word_is_refused(data, task, sample, arch):
    model = task.build_model(parse_training([data, *TINY_TRANSFORMER, "--arch", arch]).model)
    with pytest.raises(UserError, match=r"^\w+Decoder does not predict word by word, as this criterion needs; "):
        run_model(model, sample["net_input"], target_token_index(sample["target"], PADDING))
