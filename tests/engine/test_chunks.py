import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from nmt_kd.engine.chunks import Chunk, Projection, SummedLoss, per_token
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.divergence import kl_divergence
from nmt_kd.losses.precision import log_probabilities

WIDTH, VOCABULARY = 5, 13


def make_inputs(tokens, dtype=torch.float64, bias=True):
    torch.manual_seed(tokens)
    shapes = [(tokens, WIDTH), (VOCABULARY, WIDTH), *([(VOCABULARY,)] if bias else [])]
    inputs = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    gold = torch.randint(VOCABULARY, (tokens,))
    teacher_logits = torch.randn(tokens, VOCABULARY, dtype=dtype) * 3
    return inputs, gold, teacher_logits


def objective_for(gold, teacher_logits):
    """What word-level distillation computes, with its two terms as named values."""

    def objective(logits, rows):
        log_p = log_probabilities(logits)
        cross_entropy, _ = label_smoothed_cross_entropy(log_p, gold[rows], 0.1)
        divergence = kl_divergence(log_p, log_probabilities(teacher_logits[rows]))
        return 0.3 * cross_entropy + 0.7 * divergence, {"ce_loss": cross_entropy, "kd_loss": divergence}

    return objective


class Tokens:
    """A view of some tokens under several projections."""

    def __init__(self, *projections):
        self.projections = projections

    def chunk(self, rows, logits):
        return Chunk(rows, logits)


def summed_objective(passes, chunk_tokens=0):
    """The summed loss of several projections, each with a function of logits and rows."""
    total = SummedLoss(chunk_tokens)
    for projection, objective in passes:
        for chunk in total.chunks(Tokens(projection)):
            total.add(chunk, *objective(chunk.logits[0].values, chunk.rows))
    return total.result()


def chunked_objective(projection, objective, chunk_tokens=0):
    return summed_objective([(projection, objective)], chunk_tokens)


def plain_form(inputs, gold, teacher_logits):
    logits = functional.linear(*inputs)
    losses, named = objective_for(gold, teacher_logits)(logits, slice(None))
    return losses.sum(), {name: values.sum() for name, values in named.items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 2, 7, 32])
@pytest.mark.parametrize("chunk_tokens", [0, 1, 2, 5, 7, 1000])
def test_equals_plain_computation_to_1e_10_in_value_and_every_gradient(tokens, chunk_tokens, bias):
    inputs, gold, teacher_logits = make_inputs(tokens, bias=bias)
    loss, sums = chunked_objective(Projection(*inputs), objective_for(gold, teacher_logits), chunk_tokens)
    plain, plain_sums = plain_form(inputs, gold, teacher_logits)
    torch.testing.assert_close(loss, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sums, plain_sums, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(torch.autograd.grad(loss * 3, inputs), torch.autograd.grad(plain * 3, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)])
def test_gradients_in_lower_precision_are_those_of_float64_within_its_rounding(dtype, tolerance):
    inputs, gold, teacher_logits = make_inputs(40, dtype)
    loss, _ = chunked_objective(Projection(*inputs), objective_for(gold, teacher_logits), 16)
    exact_inputs = [tensor.detach().double().requires_grad_() for tensor in inputs]
    exact, _ = plain_form(exact_inputs, gold, teacher_logits.double())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=tolerance, atol=tolerance)
    gradients = torch.autograd.grad(loss, inputs)
    for ours, theirs in zip(gradients, torch.autograd.grad(exact, exact_inputs), strict=True):
        assert ours.dtype == dtype
        error = (ours.double() - theirs).norm() / theirs.norm()
        assert error < tolerance


def test_rare_words_keep_a_gradient_in_float16():
    """A probability of 1e-7 is lost in float16's rounding; its gradient must survive, for the optimiser rescales it."""
    features = torch.ones(1, 1, dtype=torch.float16, requires_grad=True)
    weight = torch.tensor([[16.0], [0.0], [0.5]], dtype=torch.float16, requires_grad=True)
    gold = torch.zeros(1, dtype=torch.long)
    loss, _ = chunked_objective(
        Projection(features, weight),
        lambda z, rows: (label_smoothed_cross_entropy(log_probabilities(z), gold, 0)[0], {}),
    )
    (gradient,) = torch.autograd.grad(loss * 2.0**12, weight)
    exact = weight.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(functional.cross_entropy(exact.t(), gold) * 2.0**12, exact)
    torch.testing.assert_close(gradient.double()[1:], expected[1:], rtol=5e-2, atol=0)


def test_many_tokens_of_one_word_do_not_overflow_in_float16():
    """The sum over a chunk of thousands is more than float16 holds, and no loss scale reaches into it."""
    tokens = 6000
    features = torch.full((tokens, 2), 1.5, dtype=torch.float16, requires_grad=True)
    weight = torch.tensor([[0.0, 0.0], [0.5, 1.0], [1.0, 1.0]], dtype=torch.float16, requires_grad=True)
    gold = torch.zeros(tokens, dtype=torch.long)
    loss, _ = chunked_objective(
        Projection(features, weight),
        lambda z, rows: (label_smoothed_cross_entropy(log_probabilities(z), gold[rows], 0)[0], {}),
        chunk_tokens=tokens,
    )
    (gradient,) = torch.autograd.grad(loss, weight)
    exact = weight.detach().double().requires_grad_()
    logits = features.detach().double() @ exact.t()
    (expected,) = torch.autograd.grad(functional.cross_entropy(logits, gold, reduction="sum"), exact)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-2, atol=1)


@pytest.mark.parametrize("bias", [True, False])
def test_several_passes_are_the_sum_of_each_and_share_the_weights_gradient(bias):
    inputs, gold, teacher_logits = make_inputs(9, bias=bias)
    others = [torch.randn_like(inputs[0]).requires_grad_() for _ in range(2)]
    objective = objective_for(gold, teacher_logits)
    passes = [(Projection(features, *inputs[1:]), objective) for features in (inputs[0], *others)]
    loss, sums = summed_objective(passes, 4)
    assert [tensor.shape for tensor in loss.grad_fn.gradients].count(inputs[1].shape) == 1
    apart = [chunked_objective(*one_pass, 4) for one_pass in passes]
    torch.testing.assert_close(loss, sum(value for value, _ in apart), rtol=1e-12, atol=0)
    torch.testing.assert_close(sums["kd_loss"], sum(named["kd_loss"] for _, named in apart), rtol=1e-12, atol=0)
    everything = [*inputs, *others]
    torch.testing.assert_close(
        torch.autograd.grad(loss, everything), torch.autograd.grad(sum(value for value, _ in apart), everything)
    )


def test_a_pass_is_asked_for_when_the_one_before_is_done():
    inputs, gold, teacher_logits = make_inputs(5)
    done = []

    def objective(logits, rows):
        done.append(rows)
        return objective_for(gold, teacher_logits)(logits, rows)

    def passes():
        for count in (0, 2, 4):
            assert len(done) == count
            assert torch.is_grad_enabled()
            yield Projection(*inputs), objective

    summed_objective(passes(), 3)
    assert len(done) == 6


def test_a_function_of_each_chunk_gives_that_of_all_tokens():
    inputs, gold, _ = make_inputs(11)
    student = Projection(*inputs)
    ours = per_token(student.logits, student, lambda logits, rows: logits.argmax(-1) == gold[rows], 3)
    assert torch.equal(ours, functional.linear(*inputs).argmax(-1) == gold)
    empty = Projection(inputs[0][:0], *inputs[1:])
    assert per_token(empty.logits, empty, lambda logits, rows: logits.argmax(-1)).shape == (0,)


def test_gradients_are_the_slopes_of_the_loss_along_any_direction():
    inputs, gold, teacher_logits = make_inputs(6)
    objective = objective_for(gold, teacher_logits)
    gradients = torch.autograd.grad(chunked_objective(Projection(*inputs), objective, 4)[0], inputs)
    for _ in range(5):
        direction = [torch.randn_like(tensor) for tensor in inputs]
        ahead, behind = (
            chunked_objective(
                Projection(*(tensor.detach() + step * along for tensor, along in zip(inputs, direction, strict=True))),
                objective,
                4,
            )[0]
            for step in (1e-6, -1e-6)
        )
        slope = sum((gradient * along).sum() for gradient, along in zip(gradients, direction, strict=True))
        torch.testing.assert_close((ahead - behind) / 2e-6, slope, rtol=1e-6, atol=1e-6)


def test_the_loss_can_be_differentiated_once():
    """Its gradients are scaled in place and given away, for the weight's is as large as the embeddings."""
    inputs, gold, teacher_logits = make_inputs(6)
    loss, _ = chunked_objective(Projection(*inputs), objective_for(gold, teacher_logits), 4)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        loss.backward()


def test_logits_of_a_model_without_a_projection_go_through_unchanged():
    (logits, *_), gold, teacher_logits = make_inputs(9)
    logits = torch.randn(9, VOCABULARY, dtype=torch.float64, requires_grad=True)
    objective = objective_for(gold, teacher_logits)
    loss, _ = chunked_objective(Projection(logits), objective, 4)
    plain = objective(logits, slice(None))[0].sum()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(plain, logits))


def test_a_weight_that_is_also_the_embedding_gets_both_gradients():
    (features, weight, _), gold, teacher_logits = make_inputs(4)

    def gradient(compute):
        shifted = features.detach() + weight[:4]
        loss = compute([shifted, weight])
        return torch.autograd.grad(loss, weight)[0]

    ours = gradient(lambda tensors: chunked_objective(Projection(*tensors), objective_for(gold, teacher_logits), 3)[0])
    torch.testing.assert_close(ours, gradient(lambda tensors: plain_form(tensors, gold, teacher_logits)[0]))


def test_a_batch_without_tokens_gives_zero_and_zero_gradients():
    inputs, gold, teacher_logits = make_inputs(0)
    loss, sums = chunked_objective(Projection(*inputs), objective_for(gold, teacher_logits))
    assert loss == 0
    assert sums == {"ce_loss": 0, "kd_loss": 0}
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, inputs))


def test_without_gradients_nothing_is_recorded_or_computed():
    inputs, gold, teacher_logits = make_inputs(8)
    seen = []

    def objective(logits, rows):
        seen.append(logits.requires_grad)
        return objective_for(gold, teacher_logits)(logits, rows)

    with torch.no_grad():
        loss, _ = chunked_objective(Projection(*inputs), objective, 3)
    assert not loss.requires_grad
    assert seen == [False, False, False]


class LargestTensor(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and not function.is_view:
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_of_tokens_times_vocabulary_is_ever_made():
    features = torch.randn(300, 8, requires_grad=True)
    weight = torch.randn(500, 8, requires_grad=True)
    teacher = Projection(torch.randn(300, 8), torch.randn(500, 8))
    gold = torch.randint(500, (300,))

    def objective(logits, rows):
        log_p = log_probabilities(logits)
        cross_entropy, _ = label_smoothed_cross_entropy(log_p, gold[rows], 0.1)
        return cross_entropy + kl_divergence(log_p, log_probabilities(teacher.logits(rows))), {}

    with LargestTensor() as largest:
        loss, _ = chunked_objective(Projection(features, weight), objective, chunk_tokens=20)
        loss.backward()
    assert largest.elements <= 20 * 500


def test_passes_with_other_output_weights_of_the_same_shape_have_gradients_of_their_own():
    inputs, gold, teacher_logits = make_inputs(9)
    (_, other_weight, other_bias), _, _ = make_inputs(10)
    other = [inputs[0], other_weight, other_bias]  # the same features
    objective = objective_for(gold, teacher_logits)
    everything = [*inputs, other_weight, other_bias]
    loss, _ = summed_objective([(Projection(*inputs), objective), (Projection(*other), objective)], 4)
    plain = plain_form(inputs, gold, teacher_logits)[0] + plain_form(other, gold, teacher_logits)[0]
    torch.testing.assert_close(loss, plain, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(torch.autograd.grad(loss, everything), torch.autograd.grad(plain, everything), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk_tokens", [0, 1, 4])
def test_projections_side_by_side_may_share_a_loss_and_an_output_layer(chunk_tokens):
    (first, weight, bias), _, _ = make_inputs(9)
    second = torch.randn_like(first).requires_grad_()

    def difference(a, b):
        a, b = a.log_softmax(-1), b.log_softmax(-1)
        return ((a.exp() - b.exp()) * (a - b)).sum(-1)

    total = SummedLoss(chunk_tokens)
    for chunk in total.chunks(Tokens(Projection(first, weight, bias), Projection(second, weight, bias))):
        total.add(chunk, difference(*(logits.values for logits in chunk.logits)), {})
    loss, _ = total.result()
    plain = difference(functional.linear(first, weight, bias), functional.linear(second, weight, bias)).sum()
    inputs = [first, second, weight, bias]
    torch.testing.assert_close(loss, plain, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(plain, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_frozen_output_layer_gets_no_gradient_and_its_features_do():
    (features, weight, bias), gold, teacher_logits = make_inputs(5)
    frozen = [weight.detach(), bias.detach()]
    loss, _ = chunked_objective(Projection(features, *frozen), objective_for(gold, teacher_logits), 2)
    plain, _ = plain_form([features, *frozen], gold, teacher_logits)
    torch.testing.assert_close(torch.autograd.grad(loss, features), torch.autograd.grad(plain, features))
    loss, _ = chunked_objective(Projection(features.detach(), weight, bias), objective_for(gold, teacher_logits), 2)
    torch.testing.assert_close(
        torch.autograd.grad(loss, [weight, bias]),
        torch.autograd.grad(plain_form([features.detach(), weight, bias], gold, teacher_logits)[0], [weight, bias]),
    )


def test_a_chunk_is_empty_once_it_was_added():
    inputs, gold, teacher_logits = make_inputs(5)
    total = SummedLoss(2)
    for chunk in total.chunks(Tokens(Projection(*inputs))):
        total.add(chunk, *objective_for(gold, teacher_logits)(chunk.logits[0].values, chunk.rows))
        assert vars(chunk) == {}


def test_chunks_are_added_once_each():
    inputs, _, _ = make_inputs(5)
    total = SummedLoss(2)
    chunks = total.chunks(Tokens(Projection(*inputs)))
    chunk = next(chunks)
    with pytest.raises(RuntimeError, match="not added to the loss before the next one"):
        next(chunks)
    total = SummedLoss(2)
    chunk = next(total.chunks(Tokens(Projection(*inputs))))
    losses = chunk.logits[0].total
    total.add(chunk, losses, {})
    with pytest.raises(RuntimeError, match="has been added already"):
        total.add(chunk, losses, {})


def test_a_projection_in_float32_beside_one_in_float16_has_the_same_gradients_as_alone():
    inputs, gold, teacher_logits = make_inputs(12, torch.float32)
    halves = [tensor.detach().half().requires_grad_() for tensor in inputs]
    objective = objective_for(gold, teacher_logits)
    total = SummedLoss(5)
    for chunk in total.chunks(Tokens(Projection(*inputs), Projection(*halves))):
        losses = [objective(logits.values, chunk.rows)[0] for logits in chunk.logits]
        total.add(chunk, sum(losses), {})
    loss, _ = total.result()
    alone, _ = chunked_objective(Projection(*inputs), objective, 5)
    for ours, theirs in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(alone, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)
