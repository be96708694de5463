import math

import pytest
import torch
from plain import Plain

from nmt_kd.engine.distribution import TopDistribution, WholeDistribution
from nmt_kd.errors import UserError
from nmt_kd.losses.divergence import coarse_divergence, kl_divergence
from nmt_kd.losses.precision import log_probabilities
from nmt_kd.losses.ranking import hierarchical_ranking_loss

TOKENS, VOCABULARY = 7, 12


def top_of(logits: torch.Tensor, top_k: int) -> TopDistribution:
    """What is left of a distribution in a cache of its top k."""
    log_q = log_probabilities(logits)
    values, words = log_q.sort(-1, descending=True)
    return TopDistribution(words[:, :top_k], values[:, :top_k], values[:, top_k:].logsumexp(-1), logits.size(-1))


@pytest.fixture
def logits():
    torch.manual_seed(1)
    return torch.randn(2, TOKENS, VOCABULARY, dtype=torch.float64) * 3


def slow_coarse_divergence(p: list[float], q: list[float], top_k: int) -> float:
    """One token: the teacher's k first words, and all others as one."""
    order = sorted(range(len(q)), key=lambda word: -q[word])
    groups = [[word] for word in order[:top_k]] + ([order[top_k:]] if top_k < len(q) else [])
    masses = [(sum(q[word] for word in group), sum(p[word] for word in group)) for group in groups]
    return sum(of_q * math.log(of_q / of_p) for of_q, of_p in masses)


@pytest.mark.parametrize("top_k", [1, 3, VOCABULARY - 1, VOCABULARY])
def test_the_coarse_divergence_takes_all_other_words_as_one(logits, top_k):
    student, teacher = logits
    ours = top_of(teacher, top_k).divergence(Plain(log_probabilities(student)))
    for token in range(TOKENS):
        p, q = student[token].softmax(-1).tolist(), teacher[token].softmax(-1).tolist()
        assert ours[token].item() == pytest.approx(slow_coarse_divergence(p, q, top_k), rel=1e-6)


def test_it_grows_with_k_up_to_the_divergence_itself(logits):
    student, teacher = log_probabilities(logits[0]), logits[1]
    values = torch.stack([top_of(teacher, k).divergence(Plain(student)) for k in range(1, VOCABULARY + 1)])
    assert (values.diff(dim=0) >= -1e-9).all()
    torch.testing.assert_close(values[-1], kl_divergence(student, log_probabilities(teacher)))
    assert (values >= -1e-9).all()


def test_it_is_the_divergence_where_the_other_words_are_in_proportion(logits):
    teacher = logits[1]
    words = top_of(teacher, 4).words
    student = teacher.scatter_add(-1, words, torch.randn(TOKENS, 4, dtype=torch.float64))  # changes the top 4 alone
    coarse = top_of(teacher, 4).divergence(Plain(log_probabilities(student)))
    torch.testing.assert_close(coarse, kl_divergence(log_probabilities(student), log_probabilities(teacher)))


def test_gradients_of_the_coarse_divergence(logits):
    top = top_of(logits[1], 3)
    student = logits[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: coarse_divergence(z.log_softmax(-1).gather(-1, top.words), top.log_q, top.log_rest), student
    )


def with_the_students_rest(p: list[float], q: list[float], top_k: int) -> list[float]:
    """One token: the teacher's k first words, and its other mass distributed as the student's."""
    others = sorted(range(len(q)), key=lambda word: -q[word])[top_k:]
    ratio = sum(q[word] for word in others) / sum(p[word] for word in others) if others else 0
    return [ratio * p[word] if word in others else q[word] for word in range(len(q))]


@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("top_k", [1, 3, VOCABULARY - 1, VOCABULARY])
def test_at_a_temperature_the_other_mass_is_distributed_as_the_students(logits, top_k, temperature):
    """Values and gradients are those of a slow form with a distribution over all words."""
    student, teacher = logits[0].clone().requires_grad_(), logits[1]
    ours = top_of(teacher, top_k).divergence(Plain(student.log_softmax(-1)), temperature)
    pairs = zip(student.softmax(-1).tolist(), teacher.softmax(-1).tolist(), strict=True)
    completed = torch.tensor([with_the_students_rest(p, q, top_k) for p, q in pairs], dtype=torch.float64)
    slow = logits[0].clone().requires_grad_()
    log_q = (completed.log() / temperature).log_softmax(-1)
    expected = (log_q.exp() * (log_q - (slow / temperature).log_softmax(-1))).sum(-1) * temperature**2
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    for loss, tensor in ((ours, student), (expected, slow)):
        loss.sum().backward()
        assert tensor.grad.norm() > 0
    torch.testing.assert_close(student.grad, slow.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_is_exact_where_the_other_words_are_in_proportion(logits, temperature):
    teacher = logits[1]
    student = teacher.scatter_add(-1, top_of(teacher, 4).words, torch.randn(TOKENS, 4, dtype=torch.float64))
    coarse = top_of(teacher, 4).divergence(Plain(log_probabilities(student)), temperature)
    exact = WholeDistribution(teacher).divergence(Plain(log_probabilities(student)), temperature)
    torch.testing.assert_close(coarse, exact)


@pytest.mark.parametrize("distance", [0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.5, 2.0])
def test_at_a_temperature_gradients_are_closer_than_with_the_other_words_as_one_or_uniform(temperature, distance):
    generator = torch.Generator().manual_seed(2)
    teacher = 3 * torch.randn(50, 2000, generator=generator, dtype=torch.float64)
    teacher.scatter_add_(-1, teacher.argmax(-1, keepdim=True), torch.full((50, 1), 6.0, dtype=torch.float64))
    start = teacher + distance * torch.randn(50, 2000, generator=generator, dtype=torch.float64)
    top = top_of(teacher, 8)

    def error(divergence):
        gradients = []
        for loss in (divergence, lambda log_p: kl_divergence(log_p, log_probabilities(teacher), temperature)):
            student = start.clone().requires_grad_()
            loss(student.log_softmax(-1)).sum().backward()
            gradients.append(student.grad)
        ours, exact = gradients
        return ((ours - exact).norm(dim=-1) / exact.norm(dim=-1)).mean().item()

    def as_one_word(log_p):
        listed = log_p.gather(-1, top.words)
        student = torch.cat([listed, (1 - listed.exp().sum(-1, keepdim=True)).log()], -1)
        return kl_divergence(student, torch.cat([top.log_q, top.log_rest.unsqueeze(-1)], -1), temperature)

    def uniform(log_p):
        share = (top.log_rest - math.log(2000 - 8)).unsqueeze(-1).expand(-1, 2000)
        return kl_divergence(log_p, share.scatter(-1, top.words, top.log_q), temperature)

    ours = error(lambda log_p: top.divergence(Plain(log_p), temperature))
    assert ours < 0.8
    assert ours < 0.8 * min(error(as_one_word), error(uniform))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.0, 1e2, 1e4])
def test_extreme_students_have_finite_values_and_gradients(logits, scale, temperature):
    student = (logits[0].float() * scale).requires_grad_()
    for top_k in (1, VOCABULARY):
        top = top_of(logits[1].float(), top_k)
        loss = top.divergence(Plain(student.log_softmax(-1)), temperature)
        (gradient,) = torch.autograd.grad(loss.sum(), student)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient.abs().max() <= 2 * max(1, temperature)


def test_both_kinds_say_the_same_of_what_both_know(logits):
    whole, top = WholeDistribution(logits[1]), top_of(logits[1], 5)
    assert torch.equal(whole.first_choice, top.first_choice)
    for ours, theirs in zip(top.top(3), whole.top(3), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(top.log_q_of(top.words), whole.log_q_of(top.words))
    assert top.vocabulary_size == whole.vocabulary_size == VOCABULARY
    gold = top.words[:, 4]
    torch.testing.assert_close(top.nll(gold), whole.nll(gold))
    torch.testing.assert_close(whole.nll(gold), -log_probabilities(logits[1]).gather(-1, gold[:, None])[:, 0])


def test_words_that_are_not_listed_are_less_probable_than_all_that_are(logits):
    top = top_of(logits[1], 5)
    unlisted = torch.stack([torch.tensor(sorted(set(range(VOCABULARY)) - set(row.tolist()))) for row in top.words])
    assert (top.log_q_of(unlisted).amax(-1) < top.log_q.amin(-1)).all()
    # and share what is left evenly
    evenly = math.log(VOCABULARY - 5) - top.log_rest
    torch.testing.assert_close(top.nll(unlisted[:, 2]), evenly)


@pytest.mark.parametrize("top_k", [1, 3, 5])
def test_the_ranking_loss_needs_no_more_than_the_words_it_ranks(logits, top_k):
    student = log_probabilities(logits[0])

    def ranking(teacher):
        (t, q_t), s = teacher.top(top_k), student.topk(top_k).indices
        return hierarchical_ranking_loss(
            student.gather(-1, s).exp(), teacher.log_q_of(s), student.gather(-1, t).exp(), q_t
        )

    torch.testing.assert_close(ranking(top_of(logits[1], 5)), ranking(WholeDistribution(logits[1])))


def test_a_small_rest_is_precise_and_ties_are_in_the_order_of_their_numbers():
    logits = torch.tensor([[30.0, 5.0, 50.0, 30.0, 5.0, -3.0], [0.0, 0.0, 0.0, 0.0, 0.0, -1.0]])
    top = WholeDistribution(logits).coarse(3)
    words, log_q, rest = top.words, top.log_q, top.log_rest
    assert words[0].tolist() == [2, 0, 3]
    assert words[1].tolist() == sorted(words[1].tolist())
    expected = logits.double().log_softmax(-1)
    torch.testing.assert_close(log_q, expected.gather(-1, words).float())
    assert rest[0].item() == pytest.approx(expected[0, [1, 4, 5]].logsumexp(0).item(), abs=1e-5)
    assert rest[0].item() < -40  # what 1 - sum would have lost


def test_half_precision_of_a_model_does_not_matter_to_its_rest():
    logits = torch.tensor([[10.0, 0.0, 1.0, 2.0]], dtype=torch.float16)
    top = WholeDistribution(logits).coarse(1)
    log_q, rest = top.log_q, top.log_rest
    assert log_q.dtype == rest.dtype == torch.float32
    assert rest.item() == pytest.approx(logits.double().log_softmax(-1)[0, 1:].logsumexp(0).item(), abs=1e-5)


@pytest.mark.parametrize("top_k", [1, 3, 5])
def test_fewer_of_the_top_words_are_the_top_words_of_all(logits, top_k):
    whole, again = WholeDistribution(logits[1]).coarse(top_k), WholeDistribution(logits[1]).coarse(5).coarse(top_k)
    assert torch.equal(whole.words, again.words)
    torch.testing.assert_close(whole.log_q, again.log_q)
    torch.testing.assert_close(whole.log_rest, again.log_rest)
    torch.testing.assert_close(whole.confidence, WholeDistribution(logits[1]).confidence)


def test_more_words_than_there_are_have_no_mass():
    words, log_q = torch.tensor([[4, 0], [1, 2]]), torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    nothing = torch.full((2,), -math.inf)
    found = TopDistribution(words, log_q, nothing, 9).coarse(4)
    assert found.words.tolist() == [[4, 0, 1, 2], [1, 2, 0, 3]]
    assert found.log_q.equal(torch.cat([log_q, torch.full((2, 2), -100.0)], dim=-1))
    assert found.log_rest.equal(nothing)
    with pytest.raises(UserError, match=r"^--top-k is 4, but the teacher gives only 2 words; lower --top-k$"):
        TopDistribution(words, log_q, torch.tensor([-math.inf, -5.0]), 9).coarse(4)
    known = torch.tensor([True, False])
    assert TopDistribution(words, log_q, torch.tensor([-math.inf, 0.0]), 9, known).coarse(4).words.size(1) == 4
