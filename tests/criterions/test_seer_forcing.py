import pytest
import torch
from conftest import method_flags, train_here
from criterions.test_contract import loss_and_gradients
from fairseq import checkpoint_utils

from nmt_kd.criterions.seer_forcing import SeerBeside
from nmt_kd.errors import UserError
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy

FEW = ["--max-update", "3", "--dropout", "0.1", "--disable-validation"]
DEEP = ["--decoder-layers", "2", "--seer-dropout", "0"]


def slow_logits(seer, student, sentence):
    """The seer's logits for a sentence alone, each position computed from the words it may see, and no others."""
    net_input = sentence["net_input"]
    decoder = student.decoder
    encoder_output = student.encoder(net_input["src_tokens"], net_input["src_lengths"])
    source = encoder_output["encoder_out"][0]
    embedded = decoder(net_input["prev_output_tokens"], encoder_out=encoder_output)[1]["inner_states"][0]

    def stream(states):
        mask = torch.full((len(states), len(states)), -torch.inf).triu(1)
        for layer in seer.layers:
            states = layer(states, source, None, self_attn_mask=mask)[0]
        last = seer.last
        attended = last.self_attn(states, states, states, attn_mask=mask)[0]
        return last.self_attn_layer_norm(states + attended)[-1]

    rows = []
    for position in range(len(embedded)):
        past = stream(embedded[: position + 1])
        following = embedded[position + 2 :].flip(0)
        future = stream(following) if len(following) else torch.zeros_like(past)
        x = seer.last.join(torch.cat([past, future], -1)).unsqueeze(0)
        x = seer.last.encoder_attn_layer_norm(x + seer.last.encoder_attn(x, source, source)[0])
        x = seer.last.final_layer_norm(x + seer.last.fc2(seer.last.activation_fn(seer.last.fc1(x))))
        rows.append(decoder.output_projection(x[0, 0]))
    return torch.stack(rows)


@pytest.mark.parametrize("chunk", [0, 7])
def test_equals_the_slow_form_in_loss_and_gradients(build, task, sample, chunk):
    criterion, student = build(
        "seer_forcing",
        "--kd-alpha",
        0.3,
        "--seer-dropout",
        0,
        "--kd-chunk-tokens",
        chunk,
        *DEEP,
        "--attention-dropout",
        0,
    )
    loss, gradient, logged = loss_and_gradients(criterion, student, sample)
    of_seer = {name: value.grad.clone() for name, value in criterion.named_parameters()}
    student.zero_grad()
    criterion.zero_grad()
    dataset, expected = task.dataset("test"), 0.0
    for number in sample["id"].tolist():
        sentence = dataset.collater([dataset[number]])
        log_p = student(**sentence["net_input"])[0][0].log_softmax(-1)
        log_seer = slow_logits(criterion.seer, student, sentence).log_softmax(-1)
        gold, q = sentence["target"][0], log_seer.detach()
        plain, seers = (label_smoothed_cross_entropy(values, gold, 0.1)[0].sum() for values in (log_p, log_seer))
        expected = expected + 0.7 * plain + 0.3 * (q.exp() * (q - log_p)).sum() + seers
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert logged["seer_loss"] > 0
    for named, ours in ((student.named_parameters(), gradient), (criterion.named_parameters(), of_seer)):
        for name, value in named:
            if value.grad is not None:
                torch.testing.assert_close(ours[name], value.grad, rtol=1e-3, atol=1e-4)


def test_the_seer_sees_the_past_and_the_future_but_not_the_word_to_predict(build, sample):
    criterion, student = build("seer_forcing", *DEEP)

    def features(inputs):
        batch = criterion.read(student, {**sample, "net_input": {**sample["net_input"], "prev_output_tokens": inputs}})
        return batch.with_decoder(SeerBeside(criterion.seer, batch.student)).student.projection.features

    inputs = sample["net_input"]["prev_output_tokens"]
    length = int(inputs[0].ne(criterion.padding_idx).sum())
    assert length > 4
    changed = inputs.clone()
    changed[0, 3] = 5 if inputs[0, 3] != 5 else 6  # the third word, which position 2 predicts
    differs = (features(inputs) - features(changed)).abs().amax(-1)[:length] > 1e-7
    assert differs.tolist() == [position != 2 for position in range(length)]


def test_the_seer_learns_from_the_references_alone(build, sample):
    gradients = []
    for alpha in (0.1, 0.9):
        criterion, student = build("seer_forcing", "--kd-alpha", alpha, "--seer-dropout", 0)
        loss_and_gradients(criterion, student, sample)
        gradients.append({name: value.grad.clone() for name, value in criterion.named_parameters()})
    assert len(gradients[0]) > 10
    torch.testing.assert_close(*gradients)


def test_the_seer_is_saved_beside_a_stock_model_that_loads_without_this_package(data, teacher_path, task, tmp_path):
    ours, stock = (
        train_here(data, tmp_path / method, *method_flags(method, teacher_path), *FEW).checkpoint()
        for method in ("seer_forcing", "label_smoothed_cross_entropy")
    )
    assert ours["model"].keys() == stock["model"].keys()
    assert any(name.startswith("seer.last.") for name in ours["criterion"])
    path = str(tmp_path / "seer_forcing/checkpoint_last.pt")
    (model,), _ = checkpoint_utils.load_model_ensemble([path], task=task)
    assert not any("seer" in name for name in model.state_dict())


def test_targets_padded_on_the_left_are_refused(build):
    with pytest.raises(UserError, match="seer_forcing counts target positions from the left; remove --left-pad-target"):
        build("seer_forcing", "--left-pad-target")
