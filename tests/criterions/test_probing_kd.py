"""The probing variants of word-KD against a slow form written from the paper, token by token."""

import itertools

import pytest
import torch
from torch import nn

from nmt_kd.criterions.base import Chunk
from nmt_kd.engine.distribution import TopDistribution
from nmt_kd.errors import UserError
from nmt_kd.losses.logits import Logits

INTERVALS = [(0.0, 0.4), (0.4, 0.7), (0.7, 1.0)]


def scale_logits(teacher, factor):
    """Make a teacher more confident, without touching the embeddings that share its output weights."""
    projection = teacher.decoder.output_projection
    projection.weight = nn.Parameter(factor * projection.weight.detach(), requires_grad=False)


@pytest.fixture
def probing(build):
    """The criterion and a student in double precision, with a teacher whose confidence spreads over the intervals."""

    def probing(*flags, scale=4.0, method="probing_kd"):
        criterion, student = build(method, *flags)
        scale_logits(criterion.teacher.models[0], scale)
        return criterion.double(), student.double()

    return probing


def distributions(criterion, student, sample):
    """Log-probabilities of both models, and the rows and columns of the target tokens."""
    models = student, criterion.teacher.models[0].double()
    log_p, log_q = (model(**sample["net_input"])[0].log_softmax(-1) for model in models)
    return log_p, log_q.detach(), sample["target"].ne(criterion.padding_idx).nonzero().tolist()


def cross_entropy(log_p, gold):
    share = 0.1 / (len(log_p) - 1)
    return -(0.9 - share) * log_p[gold] - share * log_p.sum()


def divergence(log_p, q):
    possible = q > 0
    return (q[possible] * (q[possible].log() - log_p[possible])).sum()


def top_k(k):
    def loss(log_p, q, gold):
        ranked = sorted(range(len(q)), key=q.tolist().__getitem__, reverse=True)
        return -sum(q[v] * log_p[v] for v in ranked[:k])

    return loss


def no_top_1(log_p, q, gold):
    first, moved = q.argmax(), q.clone()
    if first != gold:
        moved[gold] += q[first]
        moved[first] = 0
    return divergence(log_p, moved)


def whole(log_p, q, gold):
    return divergence(log_p, q)


def decoded(criterion, student, sample):
    """The batch with every other target token, and no other, changed to the teacher's first choice."""
    _, log_q, tokens = distributions(criterion, student, sample)
    target = sample["target"].clone()
    for row, column in tokens[::2]:
        target[row, column] = log_q[row, column].argmax()
    assert target.ne(criterion.padding_idx).equal(sample["target"].ne(criterion.padding_idx))
    return {**sample, "target": target}


def by_hand(criterion, student, sample, weigh, probe=whole):
    """`weigh(q, gold)` gives the weights of cross-entropy and distillation of one token."""
    log_p, log_q, tokens = distributions(criterion, student, sample)
    total = 0
    for row, column in tokens:
        ours, q, gold = log_p[row, column], log_q[row, column].exp(), sample["target"][row, column]
        ce_weight, kd_weight = weigh(q, gold)
        total += ce_weight * cross_entropy(ours, gold)
        if kd_weight:
            total += kd_weight * probe(ours, q, gold)
    return total


def loss_and_gradients(loss, student):
    student.zero_grad()
    loss.backward()
    gradients = {name: each.grad.clone() for name, each in student.named_parameters() if each.grad is not None}
    return loss.detach(), gradients


def assert_equals_by_hand(criterion, student, sample, weigh, probe=whole):
    loss, sample_size, _ = criterion(student, sample)
    assert sample_size == len(sample["target"][sample["target"] != criterion.padding_idx])
    ours = loss_and_gradients(loss, student)
    expected = loss_and_gradients(by_hand(criterion, student, sample, weigh, probe), student)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


# -- which part of the distribution -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "probe"),
    [
        ([], top_k(1)),
        (["--probing-top-k", "3"], top_k(3)),
        (["--probing-loss", "no-top-1"], no_top_1),
        (["--probing-loss", "all"], whole),
    ],
    ids=["no-correlation", "top-3", "no-top-1", "all"],
)
def test_equals_the_slow_form_of_every_part_of_the_distribution(probing, sample, flags, probe):
    criterion, student = probing("--kd-alpha", "0.3", *flags)
    assert_equals_by_hand(criterion, student, sample, lambda q, gold: (0.7, 0.3), probe)


def test_top_k_of_the_whole_vocabulary_is_word_kd_plus_the_teachers_entropy(probing, sample, task):
    results = []
    for method, flags in (("probing_kd", ["--probing-top-k", len(task.target_dictionary)]), ("word_kd", [])):
        criterion, student = probing(*flags, method=method)
        loss, _, logged = criterion(student, sample)
        results.append((logged["kd_loss"], loss_and_gradients(loss, student)[1]))
    _, log_q, tokens = distributions(criterion, student, sample)
    entropy = sum(-(log_q[row, column].exp() * log_q[row, column]).sum() for row, column in tokens)
    torch.testing.assert_close(results[0][0], results[1][0] + entropy, rtol=1e-5, atol=0)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


# -- confidence intervals ---------------------------------------------------------------------------------------------


def interval_flags(above, up_to):
    return ["--probing-above", above, "--probing-up-to", up_to]


@pytest.mark.parametrize(("above", "up_to"), INTERVALS)
def test_outside_an_interval_the_cross_entropy_keeps_its_weight(probing, sample, above, up_to):
    criterion, student = probing("--probing-loss", "all", "--kd-alpha", "0.3", *interval_flags(above, up_to))
    inside = []

    def weigh(q, gold):
        inside.append(above < q.max() <= up_to)
        return 0.7, 0.3 * inside[-1]

    assert_equals_by_hand(criterion, student, sample, weigh)
    assert {bool(each) for each in inside} == {False, True}


@pytest.mark.parametrize("scale", [4.0, 1000.0])
def test_the_intervals_partition_the_tokens(probing, sample, scale):
    """With the larger scale the teacher's probabilities reach 1."""
    criterion, student = probing("--probing-loss", "all", scale=scale)
    whole_loss = criterion(student, sample)[2]["kd_loss"]
    assert (distributions(criterion, student, sample)[1].exp().amax(-1) == 1).any() == (scale == 1000)
    parts = []
    for interval in INTERVALS:
        criterion, student = probing("--probing-loss", "all", *interval_flags(*interval), scale=scale)
        parts.append(criterion(student, sample)[2]["kd_loss"])
    torch.testing.assert_close(sum(parts), whole_loss)
    assert sum(part > 0 for part in parts) >= (3 if scale == 4 else 1)


def kept_confidences(criterion, confidences):
    """Those of some tokens' highest probabilities for which there is a distillation term."""
    chunk = Chunk(batch=None, rows=slice(None), logits=[Logits(torch.zeros(len(confidences), 200))])
    log_q = torch.tensor(confidences).log().unsqueeze(-1)
    vars(chunk)["teacher"] = TopDistribution(torch.full(log_q.shape, 5), log_q, torch.full((len(log_q),), -20.0), 200)
    kept = criterion.token_losses(chunk)["kd_loss"] > 0
    return [confidence for confidence, inside in zip(confidences, kept, strict=True) if inside]


@pytest.mark.parametrize(
    ("interval", "expected"), zip(INTERVALS, ([0.1, 0.3999], [0.4001, 0.6999], [0.7001, 1.0, 1.000001]), strict=True)
)
def test_the_last_interval_has_no_upper_end(build, interval, expected):
    """float32 rounds probabilities to 1 and above."""
    criterion, _ = build("probing_kd", *interval_flags(*interval))
    assert kept_confidences(criterion, [0.1, 0.3999, 0.4001, 0.6999, 0.7001, 1.0, 1.000001]) == expected


@pytest.mark.parametrize(("interval", "expected"), [((0.25, 0.5), [0.5]), ((0.5, 1.0), [])])
def test_an_interval_has_its_upper_bound_and_not_its_lower(build, interval, expected):
    assert torch.tensor([0.25, 0.5]).log().exp().tolist() == [0.25, 0.5]
    criterion, _ = build("probing_kd", *interval_flags(*interval))
    assert kept_confidences(criterion, [0.25, 0.5]) == expected


# -- targets that the teacher has decoded -----------------------------------------------------------------------------


def is_first(q, gold):
    return bool(q.argmax() == gold)


@pytest.mark.parametrize(
    ("flags", "weigh", "probe"),
    [
        (["top-1"], lambda q, gold: (is_first(q, gold), 0), None),
        (["not-top-1"], lambda q, gold: (not is_first(q, gold), 0), None),
        (["share-of-top-1", "--probing-share", "0"], lambda q, gold: (0, 0), None),
        (["share-of-top-1", "--probing-share", "1"], lambda q, gold: (is_first(q, gold), 0), None),
        (["top-1-information"], lambda q, gold: (1, 0) if is_first(q, gold) else (0.5, 0.5), top_k(1)),
    ],
    ids=["top-1", "not-top-1", "none-of-top-1", "all-of-top-1", "top-1-information"],
)
def test_equals_the_slow_form_on_every_part_of_decoded_targets(probing, sample, flags, weigh, probe):
    criterion, student = probing("--probing-targets", *flags)
    assert_equals_by_hand(criterion, student, decoded(criterion, student, sample), weigh, probe)


def test_tokens_that_are_and_are_not_the_first_choice_make_up_the_whole_cross_entropy(probing, sample):
    losses = []
    for targets in ("top-1", "not-top-1"):
        criterion, student = probing("--probing-targets", targets)
        losses.append(criterion(student, decoded(criterion, student, sample))[0])
    expected = by_hand(criterion, student, decoded(criterion, student, sample), lambda q, gold: (1, 0))
    torch.testing.assert_close(sum(losses), expected, rtol=1e-5, atol=0)
    assert all(loss > 0 for loss in losses)


@pytest.fixture
def chosen(probing, task):
    """Which target tokens of some test sentences the loss is computed on, by sentence and position."""

    def chosen(share, sentences, targets="share-of-top-1"):
        criterion, student = probing("--probing-targets", targets, "--probing-share", share)
        sample = task.dataset("test").collater([task.dataset("test")[number] for number in sentences])
        batch = criterion.read(student, decode_all(criterion, student, sample))
        weights = criterion.loss_weights(batch)["ce_loss"].tolist()
        places = batch.token_index.tolist()
        length = sample["target"].size(1)
        return {
            (sample["id"][place // length].item(), place % length)
            for place, weight in zip(places, weights, strict=True)
            if weight
        }

    return chosen


def decode_all(criterion, student, sample):
    """The batch with the teacher's first choice as every target token."""
    choices = distributions(criterion, student, sample)[1].argmax(-1)
    padding = sample["target"].eq(criterion.padding_idx)
    return {**sample, "target": choices.masked_fill(padding, criterion.padding_idx)}


def test_a_share_of_the_first_choices_grows_with_the_share(sample, chosen):
    every = chosen("0.5", range(13), targets="top-1")
    parts = [chosen(share, range(13)) for share in ("0", "0.25", "0.5", "0.75", "1")]
    assert parts[0] == set()
    assert parts[-1] == every
    assert all(smaller < larger for smaller, larger in itertools.pairwise(parts))
    assert [len(part) / len(every) for part in parts] == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.08)


def test_the_choice_depends_on_sentence_and_position_alone(sample, chosen):
    expected = chosen("0.5", range(6))
    assert chosen("0.5", reversed(range(6))) == expected
    assert set.union(*(chosen("0.5", [number]) for number in range(6))) == expected


def test_the_choice_is_the_same_in_chunks(probing, sample):
    criterion, student = probing("--probing-targets", "share-of-top-1", "--label-smoothing", "0")
    sample = decoded(criterion, student, sample)
    expected = criterion(student, sample)[0]
    assert expected > 0
    for chunk in (1, 7):
        criterion.cfg.kd_chunk_tokens = chunk
        torch.testing.assert_close(criterion(student, sample)[0], expected)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (interval_flags("0.7", "0.4"), "--probing-above is 0.7; it must be below --probing-up-to, 0.4"),
        (interval_flags("0.4", "0.4"), "--probing-above is 0.4; it must be below --probing-up-to, 0.4"),
        (["--probing-above", "-0.1"], "--probing-above is -0.1; it must be from 0 to below 1"),
        (["--probing-above", "1"], "--probing-above is 1.0; it must be from 0 to below 1"),
        (["--probing-up-to", "1.1"], "--probing-up-to is 1.1; it must be above 0 and at most 1"),
        (["--probing-up-to", "0"], "--probing-up-to is 0.0; it must be above 0 and at most 1"),
        (["--probing-top-k", "0"], "--probing-top-k is 0; it must be 1 or more"),
        (["--probing-top-k", "-3"], "--probing-top-k is -3; it must be 1 or more"),
        (["--probing-loss", "top-2"], "--probing-loss is top-2; it must be top-k, no-top-1 or all"),
        (
            ["--probing-targets", "some"],
            "--probing-targets is some; it must be all, top-1, not-top-1, share-of-top-1 or top-1-information",
        ),
        (["--probing-share", "-0.1"], "--probing-share is -0.1; it must be from 0 to 1"),
        (["--probing-share", "1.1"], "--probing-share is 1.1; it must be from 0 to 1"),
        (["--probing-share", "nan"], "--probing-share is nan; it must be from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(build, flags, message):
    with pytest.raises(UserError) as error:
        build("probing_kd", *flags)
    assert str(error.value) == message


def test_more_words_than_the_vocabulary_has_are_refused(build, task):
    size = len(task.target_dictionary)
    with pytest.raises(UserError) as error:
        build("probing_kd", "--probing-top-k", size + 1)
    assert str(error.value) == f"--probing-top-k is {size + 1}; it must be at most {size}, all words"
