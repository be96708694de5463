from collections import Counter

import pytest
import torch
from criterions.test_contract import loss_and_gradients

from nmt_kd.engine.sampling import _draw, with_sampled_targets
from nmt_kd.errors import UserError
from nmt_kd.losses.divergence_kinds import divergence_named

ALWAYS = ["--gkd-lambda", 1]


def test_targets_are_the_students_own_samples(build, task, sample):
    criterion, student = build("gkd", *ALWAYS)
    with torch.no_grad():
        student.decoder.output_projection.weight *= 0  # all words are equally probable
    prepared = criterion.prepare(student, sample)
    target, inputs = prepared["target"], prepared["net_input"]["prev_output_tokens"]
    kept = target.ne(criterion.padding_idx)
    assert student.training
    assert prepared["ntokens"] == kept.sum()
    assert (kept.sum(1) <= sample["target"].ne(criterion.padding_idx).sum(1)).all()
    assert torch.equal(inputs.ne(criterion.padding_idx), kept)
    assert torch.equal(inputs[:, 1:][kept[:, 1:]], target[:, :-1][kept[:, 1:]])
    many = [
        word
        for update in range(40)
        for word in (setattr(criterion.progress, "updates", update) or criterion.prepare(student, sample))["target"][
            :, 0
        ].tolist()
    ]
    assert len(set(many)) > len(task.target_dictionary) / 2  # and not always the first choice


def test_words_are_drawn_with_their_probabilities():
    scores = torch.tensor([0.5, 0.3, 0.0, 0.2]).log().expand(10_000, 4)
    chances = torch.arange(10_000).double() / 10_000
    counts = Counter(_draw(scores, chances).tolist())
    assert counts[2] == 0
    assert [counts[word] for word in (0, 1, 3)] == pytest.approx([5000, 3000, 2000], abs=2)
    assert _draw(torch.zeros(1, 7), torch.tensor([1 - 2.0**-32], dtype=torch.float64)).item() == 6


def test_a_sample_does_not_depend_on_the_batch_and_changes_nothing_else(build, task, sample):
    _, student = build("gkd", *ALWAYS, "--dropout", "0.3")
    state, dataset = torch.get_rng_state(), task.dataset("test")
    whole = with_sampled_targets(student, sample, 1, 2, seed=5)
    for row, number in enumerate(sample["id"].tolist()):
        alone = with_sampled_targets(student, dataset.collater([dataset[number]]), 1, 2, seed=5)["target"][0]
        assert torch.equal(whole["target"][row][: len(alone)], alone)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(with_sampled_targets(student, sample, 1, 2, seed=6)["target"], whole["target"])


def test_an_ignored_prefix_is_not_sampled(build, sample):
    criterion, student = build("gkd", *ALWAYS, "--ignore-prefix-size", "2")
    target = criterion.prepare(student, sample)["target"]
    free = with_sampled_targets(student, sample, 1, 2, seed=5)["target"]
    prefix = sample["target"][:, :2]
    assert torch.equal(target[:, :2], prefix)
    assert not torch.equal(free[:, :2], prefix)
    assert not torch.equal(target[:, 2:], sample["target"][:, 2:])


@pytest.mark.parametrize("name", ["js", "reverse-kl"])
def test_on_samples_the_loss_is_the_divergence_alone(build, sample, name):
    criterion, student = build("gkd", *ALWAYS, "--kd-divergence", name, "--kd-alpha", 0.5, "--kd-chunk-tokens", 7)
    loss, gradient, logged = loss_and_gradients(criterion, student, sample)
    prepared = criterion.prepare(student, sample)
    kept = prepared["target"].ne(criterion.padding_idx)
    student.zero_grad()
    with torch.no_grad():
        log_q = criterion.teacher.models[0](**prepared["net_input"])[0][kept].log_softmax(-1)
    expected = divergence_named(name, 0.1)(student(**prepared["net_input"])[0][kept].log_softmax(-1), log_q).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert "nll_loss" not in logged
    for parameter, value in student.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(gradient[parameter], value.grad, rtol=1e-3, atol=1e-4)


def test_lambda_0_is_word_kd(build, sample):
    flags = ["--kd-alpha", 0.5, "--kd-divergence", "js"]
    ours = loss_and_gradients(*build("gkd", *flags, "--gkd-lambda", 0), sample)
    expected = loss_and_gradients(*build("word_kd", *flags), sample)
    torch.testing.assert_close(ours[:2], expected[:2], rtol=0, atol=0)


def test_the_warm_start_is_kl_on_the_references(build, sample):
    criterion, student = build("gkd", *ALWAYS, "--gkd-warmup-updates", 10, "--kd-divergence", "reverse-kl")
    criterion.progress.updates = 9
    ours = loss_and_gradients(criterion, student, sample)
    expected = loss_and_gradients(*build("word_kd", "--kd-alpha", 1), sample)
    torch.testing.assert_close(ours[:2], expected[:2], rtol=0, atol=0)
    criterion.progress.updates = 10
    assert criterion.prepare(student, sample) is not sample


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_lambda_is_the_share_of_updates_on_samples(build, share):
    criterion, _ = build("gkd", "--gkd-lambda", share)
    counts = []
    for criterion.progress.updates in range(1000):
        counts.append(criterion.samples)
    assert sum(counts) / 1000 == pytest.approx(share, abs=0.05)


def test_targets_padded_on_the_left_are_refused(build):
    with pytest.raises(UserError, match="gkd counts target positions from the left; remove --left-pad-target"):
        build("gkd", "--left-pad-target")
