"""Every divergence against a form written down word by word, live and from a store, and the limits they meet."""

import math
from functools import partial

import pytest
import torch
from plain import Plain

from nmt_kd.engine.distribution import WholeDistribution
from nmt_kd.losses.divergence import SMALLEST_REST, kl_divergence
from nmt_kd.losses.divergence_kinds import DIVERGENCES, FIRST_SEARCH, divergence_named
from nmt_kd.losses.precision import log_probabilities

KINDS = sorted(DIVERGENCES)


def slow_kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def mix(p, q, share):
    return [share * a + (1 - share) * b for a, b in zip(p, q, strict=True)]


def slow_adaptive(p, q):
    order = sorted(range(len(q)), key=lambda word: -q[word])
    cumulative, head = 0.0, []
    for word in order:
        cumulative += q[word]
        if cumulative <= 0.5 or not head:
            head.append(word)
        else:
            break
    of_head = sum(abs(p[word] - q[word]) for word in head)
    total = sum(abs(a - b) for a, b in zip(p, q, strict=True))
    share = of_head / total if total else 0.5
    return share * slow_kl(q, p) + (1 - share) * slow_kl(p, q)


# of the student p and the teacher q, as lists of probabilities, and the skew
SLOW = {
    "kl": lambda p, q, skew: slow_kl(q, p),
    "reverse-kl": lambda p, q, skew: slow_kl(p, q),
    "js": lambda p, q, skew: slow_kl(q, mix(p, q, 0.5)) / 2 + slow_kl(p, mix(p, q, 0.5)) / 2,
    "tvd": lambda p, q, skew: sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
    "skew-kl": lambda p, q, skew: slow_kl(q, mix(q, p, skew)),
    "skew-reverse-kl": lambda p, q, skew: slow_kl(p, mix(p, q, skew)),
    "adaptive-kl": lambda p, q, skew: slow_adaptive(p, q),
}


def slow(name, student, teacher, skew, temperature=1.0):
    pairs = zip(*((z / temperature).softmax(-1).tolist() for z in (student, teacher)), strict=True)
    values = [SLOW[name](p, q, skew) * temperature**2 for p, q in pairs]
    return torch.tensor(values, dtype=torch.float64)


def random_logits(tokens=6, vocabulary=9, scale=2.0):
    torch.manual_seed(1)
    return (torch.randn(2, tokens, vocabulary, dtype=torch.float64) * scale).unbind()


def test_each_has_a_slow_form():
    assert SLOW.keys() == DIVERGENCES.keys()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("tokens", [1, 6])
@pytest.mark.parametrize("name", KINDS)
def test_it_matches_the_equation_word_by_word(name, tokens, temperature):
    student, teacher = random_logits(tokens)
    kind = divergence_named(name, 0.3)
    ours = WholeDistribution(teacher).divergence(Plain(student.log_softmax(-1)), temperature, kind)
    torch.testing.assert_close(ours, slow(name, student, teacher, 0.3, temperature), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_match_the_values_and_flow_only_to_the_student(name):
    student, teacher = random_logits(3)
    teacher.requires_grad_()
    kind = divergence_named(name, 0.3)
    if name == "adaptive-kl":  # its weights have no gradient, so finite differences must not move them
        fixed = student.softmax(-1)

        def share(p, q):
            head = q == q.amax(-1, keepdim=True)
            while True:
                following = q.masked_fill(head, -1).argmax(-1, keepdim=True)
                wider = head.scatter(-1, following, True)
                if ((q * wider).sum(-1) > 0.5).all():
                    break
                head = wider.where(((q * wider).sum(-1, keepdim=True) <= 0.5), head)
            return ((p - q).abs() * head).sum(-1) / (p - q).abs().sum(-1)

        w = share(fixed, teacher.detach().softmax(-1))
        leaf = student.clone().requires_grad_()
        log_p, log_q = leaf.log_softmax(-1), teacher.detach().log_softmax(-1)
        expected = w * (log_q.exp() * (log_q - log_p)).sum(-1) + (1 - w) * (log_p.exp() * (log_p - log_q)).sum(-1)
        (wanted,) = torch.autograd.grad(expected.sum(), leaf)
        ours = kind(leaf.log_softmax(-1), teacher.log_softmax(-1)).sum()
        torch.testing.assert_close(torch.autograd.grad(ours, leaf)[0], wanted)
    else:
        assert torch.autograd.gradcheck(
            lambda z: kind(z.log_softmax(-1), teacher.detach().log_softmax(-1)), student.clone().requires_grad_()
        )
    kind(student.clone().requires_grad_().log_softmax(-1), teacher.log_softmax(-1)).sum().backward()
    assert teacher.grad is None


@pytest.mark.parametrize("name", KINDS)
def test_it_is_zero_with_a_zero_gradient_where_both_agree(name):
    student = random_logits()[0].requires_grad_()
    value = divergence_named(name, 0.3)(student.log_softmax(-1), student.detach().log_softmax(-1))
    torch.testing.assert_close(value, torch.zeros(6, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("name", KINDS)
def test_ties_match_the_equation(name):
    student, teacher = torch.randint(2, (2, 20, 5), generator=torch.Generator().manual_seed(3)).double()
    if name == "adaptive-kl":  # which of equal words belong to the head is arbitrary, so their errors are made equal
        student = 0.5 * teacher
    kind = divergence_named(name, 0.1)
    torch.testing.assert_close(
        kind(student.log_softmax(-1), teacher.log_softmax(-1)), slow(name, student, teacher, 0.1), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", KINDS)
def test_extreme_logits_have_finite_values_and_gradients_in_float32(name, dtype):
    student = torch.tensor([[6e4, -6e4, 0.0], [-6e4, 6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-6e4, 6e4, 0.0], [-6e4, 6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    kind = divergence_named(name, 0.1)
    value = kind(log_probabilities(student), log_probabilities(teacher))
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert gradient.isfinite().all()
    torch.testing.assert_close(value[1:], torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_no_tokens_give_no_values(name):
    assert divergence_named(name, 0.1)(torch.zeros(0, 7), torch.zeros(0, 7)).shape == (0,)


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("skewed", "plain"), [("skew-kl", "kl"), ("skew-reverse-kl", "reverse-kl")])
def test_a_skew_of_0_is_the_plain_divergence_to_the_bit(skewed, plain):
    results = []
    for kind in (divergence_named(skewed, 0.0), divergence_named(plain, 0.0)):
        student, teacher = random_logits()
        student = student.float().requires_grad_()
        value = kind(student.log_softmax(-1), teacher.float().log_softmax(-1))
        results.append((value.detach(), torch.autograd.grad(value.sum(), student)[0]))
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["js", "tvd"])
def test_it_is_symmetric_and_bounded(name):
    one, other = (logits.log_softmax(-1) for logits in random_logits(scale=20.0))
    kind = divergence_named(name, 0.0)
    torch.testing.assert_close(kind(one, other), kind(other, one))
    assert (kind(one, other) <= (math.log(2) if name == "js" else 1) + 1e-12).all()


def test_reverse_kl_is_kl_with_the_models_exchanged():
    one, other = (logits.log_softmax(-1) for logits in random_logits())
    torch.testing.assert_close(divergence_named("reverse-kl", 0.0)(one, other), kl_divergence(other, one))


def test_the_head_of_a_flat_teacher_is_found_among_more_words_than_are_searched_first():
    student, teacher = random_logits(4, 20 * FIRST_SEARCH, scale=0.1)
    ours = divergence_named("adaptive-kl", 0.0)(student.log_softmax(-1), teacher.log_softmax(-1))
    torch.testing.assert_close(ours, slow("adaptive-kl", student, teacher, 0.0))


# -- from a store -----------------------------------------------------------------------------------------------------


def as_one_word(logits, words):
    """The probabilities of `words`, and of all others as one."""
    p = logits.softmax(-1)
    listed = p.gather(-1, words)
    return torch.cat([listed, 1 - listed.sum(-1, keepdim=True)], -1) if words.size(-1) < p.size(-1) else listed


@pytest.mark.parametrize("top_k", [1, 4, 8, 9])
@pytest.mark.parametrize("name", KINDS)
def test_from_a_store_it_is_that_of_the_words_listed_and_all_others_as_one(name, top_k):
    student, teacher = random_logits()
    top = WholeDistribution(teacher).coarse(top_k)
    ours = top.divergence(Plain(student.log_softmax(-1)), 1.0, divergence_named(name, 0.3))
    expected = slow(name, *(as_one_word(logits, top.words).log() for logits in (student, teacher)), 0.3)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "adaptive-kl"])
def test_a_store_of_fewer_words_never_tells_more(name):
    student, teacher = random_logits()
    kind = divergence_named(name, 0.3)
    values = [
        WholeDistribution(teacher).coarse(k).divergence(Plain(student.log_softmax(-1)), 1.0, kind) for k in range(1, 10)
    ]
    assert (torch.stack(values).diff(dim=0) >= -1e-6).all()
    torch.testing.assert_close(values[-1], kind(student.log_softmax(-1), teacher.log_softmax(-1)))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("name", KINDS)
def test_a_store_of_all_words_is_the_teacher_at_every_temperature(name, temperature):
    student, teacher = random_logits()
    kind = divergence_named(name, 0.3)
    ours = WholeDistribution(teacher).coarse(9).divergence(Plain(student.log_softmax(-1)), temperature, kind)
    torch.testing.assert_close(ours, slow(name, student, teacher, 0.3, temperature))


@pytest.mark.parametrize("name", KINDS)
def test_a_store_that_gives_the_other_words_nothing_has_finite_values_and_gradients(name):
    """As nearest neighbours do: reverse KL would be infinite, so the bucket has a small probability."""
    student, teacher = (logits.float() for logits in random_logits())
    teacher[:, 3:] = -math.inf
    top = WholeDistribution(teacher.clamp(min=-1e4)).coarse(3)
    student.requires_grad_()
    value = top.divergence(Plain(student.log_softmax(-1)), 1.0, divergence_named(name, 0.1))
    assert value.isfinite().all()
    assert (value <= -math.log(SMALLEST_REST)).all()
    assert torch.autograd.grad(value.sum(), student)[0].isfinite().all()


def test_kl_from_a_store_needs_no_such_probability():
    student, teacher = (logits.float() for logits in random_logits())
    teacher[:, 3:] = -1e4
    top = WholeDistribution(teacher).coarse(3)
    exact = partial(slow, "kl")(student.double(), teacher.double(), 0.0)
    torch.testing.assert_close(top.divergence(Plain(student.log_softmax(-1))).double(), exact, rtol=1e-5, atol=1e-6)
