"""PKD and CKD against a slow form written from the papers, and the life of their projections in a training."""

import math

import pytest
import torch
from conftest import TINY_TRANSFORMER, Run, train_here
from fairseq.logging import metrics
from test_training import assert_same_parameters, finish, two_workers
from torch import nn

from nmt_kd.errors import UserError

PLAIN = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
PRE_NORM = ["--encoder-normalize-before", "--decoder-normalize-before"]
WIDE = [flag for half in ("encoder", "decoder") for flag in (f"--{half}-embed-dim", "24")]
STUDENT_LAYERS = ["--encoder-layers", "2", "--decoder-layers", "2"]
STUDENT = [*TINY_TRANSFORMER, *STUDENT_LAYERS]
# What METHODS.md lists for 6 layers to 2, and one written out.
MAPS = {
    "pkd": [[3], [6]],
    "rc": [[1, 2, 3], [4, 5, 6]],
    "oc": [[1, 2, 3, 4], [3, 4, 5, 6]],
    "sc": [[1, 2], [5, 6]],
    "cc": [[1, 3], [4, 6]],
    "interleaved": [[1, 3, 5], [2, 4, 6]],
    "6;1,2,5": [[6], [1, 2, 5]],
}
DECODER_MAPS = {"rc": [[1, 2], [3, 4]], "cc": [[2], [4]], "4;1,3": [[4], [1, 3]]}


@pytest.fixture(scope="module")
def deep_teachers(data, tmp_path_factory):
    """Teachers of 6 encoder and 4 decoder layers, one with each place of the layer norms."""
    layers = ["--encoder-layers", "6", "--decoder-layers", "4", "--max-update", "5", "--disable-validation"]
    return {
        name: train_here(data, tmp_path_factory.mktemp(name), *PLAIN, *WIDE, *layers, *flags).save_dir
        / "checkpoint_last.pt"
        for name, flags in (("post", []), ("pre", PRE_NORM))
    }


@pytest.fixture
def sample(task, sample):
    """Two sentences, the shorter source padded on the left."""
    return task.dataset("test").collater([task.dataset("test")[index] for index in range(2)])


@pytest.fixture
def ckd(build, deep_teachers):
    """The criterion and a student of two layers, of half the teacher's width or so, in double precision."""

    def ckd(*flags, student=(), teacher="post", method="ckd"):
        path = deep_teachers.get(teacher, teacher)
        criterion, model = build(method, "--teacher-path", path, *flags, architecture=[*STUDENT, *student])
        return criterion.double(), model.double()

    return ckd


def gradients(*modules):
    """Gradients by name; those of one module overwrite none of another's."""
    return {
        (number, name): parameter.grad.clone()
        for number, module in enumerate(modules)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def assert_same_loss_and_gradients(criterion, student, sample, expected_loss):
    loss, _, _ = criterion(student, sample)
    loss.backward()
    ours = gradients(student, criterion)
    student.zero_grad()
    criterion.zero_grad()
    expected_loss.backward()
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours, gradients(student, criterion), rtol=1e-4, atol=1e-5)
    assert set(dict(criterion.named_parameters())) <= {name for number, name in ours if number == 1}


# -- the slow form ----------------------------------------------------------------------------------------------------


def states_of(model, sample):
    """The states of both halves, by side: layers first, then [length, batch, width]."""
    net_input = sample["net_input"]
    encoder = model.encoder(net_input["src_tokens"], net_input["src_lengths"], return_all_hiddens=True)
    return {"encoder": encoder["encoder_states"], "decoder": model(**net_input)[1]["inner_states"]}


def single_tokens(tokens, padding):
    return [(row, column) for row, column in tokens.ne(padding).nonzero().tolist()]


def predictions_by_hand(student, teacher, sample, padding):
    """Label-smoothed cross-entropy and divergence, token by token."""
    log_p, log_q = (model(**sample["net_input"])[0].log_softmax(-1) for model in (student, teacher))
    share = 0.1 / (log_p.size(-1) - 1)
    cross_entropy = divergence = 0
    for row, column in single_tokens(sample["target"], padding):
        ours, theirs = log_p[row, column], log_q[row, column]
        cross_entropy -= (0.9 - share) * ours[sample["target"][row, column]] + share * ours.sum()
        divergence += (theirs.exp() * (theirs - ours)).sum()
    return cross_entropy, divergence


def hidden_by_hand(student_states, teacher_states, tokens, layers, projections, fusion):
    """The hidden layers' loss and the norms of both sides, token by token and layer by layer."""
    loss, student_norm, teacher_norm = 0, 0, 0
    for row, column in tokens:
        for number, (group, projection) in enumerate(zip(layers, projections, strict=True), start=1):
            ours = student_states[number][column, row]
            theirs = torch.cat([teacher_states[layer][column, row] for layer in group])
            linear = isinstance(projection, nn.Linear)
            if fusion == "student-up":
                ours = projection.weight @ ours + projection.bias if linear else ours
                loss += ((ours / ours.square().sum().sqrt() - theirs / theirs.square().sum().sqrt()) ** 2).sum()
            else:
                theirs = projection.weight @ theirs + projection.bias if linear else theirs
                loss += ((ours - theirs) ** 2).sum() / len(ours)
            student_norm += ours.square().sum().sqrt().item()
            teacher_norm += theirs.square().sum().sqrt().item()
    return loss, student_norm, teacher_norm


def scores_by_hand(layer, states, kept, head):
    """The scores before the softmax, by query and key, of one sentence whose states [length, width] enter the layer."""
    attention, size = layer.self_attn, layer.self_attn.head_dim
    rows = slice(head * size, (head + 1) * size)
    if layer.normalize_before:
        states = layer.self_attn_layer_norm(states)
    queries, keys = (
        {column: projection.weight[rows] @ states[column] + projection.bias[rows] for column in kept}
        for projection in (attention.q_proj, attention.k_proj)
    )
    return {(query, key): queries[query] @ keys[key] / math.sqrt(size) for query in kept for key in kept}


def attention_by_hand(models, states, source, layers, padding):
    """Squared errors, averaged over heads and keys and summed over queries, of one sentence after the other."""
    total = 0
    for number, group in enumerate(layers, start=1):
        for row, tokens in enumerate(source):
            kept = [column for column, token in enumerate(tokens.tolist()) if token != padding]
            for head in range(2):
                ours, theirs = (
                    scores_by_hand(model.encoder.layers[layer - 1], state[layer - 1][:, row], kept, head)
                    for model, state, layer in zip(models, states, (number, group[-1]), strict=True)
                )
                total += sum((ours[pair] - theirs[pair]) ** 2 for pair in ours) / (2 * len(kept))
    return total


def ckd_by_hand(criterion, student, sample, layers, decoder_layers=(), fusion="student-up", attention=0.0, shares=None):
    alpha, share = shares or (0.1, 0.7)
    padding = criterion.padding_idx
    teacher = criterion.teacher.models[0].double()
    states = states_of(student, sample), states_of(teacher, sample)
    source = sample["net_input"]["src_tokens"]
    assert source[:, 0].eq(padding).any(), "no source is padded on the left"
    hidden = 0
    for side, side_layers, tokens in (("encoder", layers, source), ("decoder", decoder_layers, sample["target"])):
        if side_layers:
            projections = criterion.matches[side].projections
            where = single_tokens(tokens, padding)
            hidden += hidden_by_hand(states[0][side], states[1][side], where, side_layers, projections, fusion)[0]
    if attention:
        encoder_states = [each["encoder"] for each in states]
        hidden += attention * attention_by_hand((student, teacher), encoder_states, source, layers, padding)
    cross_entropy, divergence = predictions_by_hand(student, teacher, sample, padding)
    return (1 - alpha - share) * cross_entropy + alpha * divergence + share * hidden


@pytest.mark.parametrize("fusion", ["student-up", "teacher-down"])
@pytest.mark.parametrize("name", MAPS)
def test_equals_the_slow_form_for_every_map_and_fusion(ckd, sample, name, fusion):
    criterion, student = ckd("--ckd-layers", name, "--ckd-fusion", fusion)
    assert_same_loss_and_gradients(
        criterion, student, sample, ckd_by_hand(criterion, student, sample, MAPS[name], fusion=fusion)
    )


@pytest.mark.parametrize("fusion", ["student-up", "teacher-down"])
@pytest.mark.parametrize(
    ("teacher", "student"), [("pre", PRE_NORM), ("post", PRE_NORM), ("pre", WIDE), ("post", [*WIDE, *PRE_NORM])]
)
def test_equals_the_slow_form_wherever_the_layer_norms_are_and_with_equal_widths(ckd, sample, teacher, student, fusion):
    criterion, model = ckd("--ckd-fusion", fusion, teacher=teacher, student=student)
    assert_same_loss_and_gradients(
        criterion, model, sample, ckd_by_hand(criterion, model, sample, MAPS["rc"], fusion=fusion)
    )


def test_weights_of_the_terms_are_the_users(ckd, sample):
    criterion, student = ckd("--kd-alpha", "0.3", "--ckd-lambda", "0.2")
    expected = ckd_by_hand(criterion, student, sample, MAPS["rc"], shares=(0.3, 0.2))
    assert_same_loss_and_gradients(criterion, student, sample, expected)


@pytest.mark.parametrize("arch", ["bart_base", "mbart_base", "transformer_align"])
def test_students_of_other_transformer_architectures_equal_the_slow_form(ckd, sample, arch):
    """BART reads its weights while it initialises them; transformer_align does not ask its encoder for all layers."""
    flags = ["--arch", arch, "--attention-dropout", "0", "--activation-dropout", "0"]
    alignment = ["--alignment-layer", "0"] if arch == "transformer_align" else []
    criterion, student = ckd("--ckd-layers", "rc", student=[*flags, *alignment])
    expected = ckd_by_hand(criterion, student, sample, MAPS["rc"])
    assert_same_loss_and_gradients(criterion, student, sample, expected)


@pytest.mark.parametrize("fusion", ["student-up", "teacher-down"])
@pytest.mark.parametrize("name", DECODER_MAPS)
def test_the_decoder_side_adds_its_target_tokens(ckd, sample, name, fusion):
    criterion, student = ckd("--ckd-decoder-layers", name, "--ckd-fusion", fusion)
    expected = ckd_by_hand(criterion, student, sample, MAPS["rc"], DECODER_MAPS[name], fusion)
    assert_same_loss_and_gradients(criterion, student, sample, expected)


@pytest.mark.parametrize(("teacher", "student"), [("post", []), ("pre", PRE_NORM)])
def test_attention_scores_before_the_softmax_are_matched(ckd, sample, teacher, student):
    criterion, model = ckd("--ckd-attention", "0.5", "--ckd-layers", "cc", teacher=teacher, student=student)
    expected = ckd_by_hand(criterion, model, sample, MAPS["cc"], attention=0.5)
    assert_same_loss_and_gradients(criterion, model, sample, expected)


@pytest.mark.parametrize("fusion", ["student-up", "teacher-down"])
def test_pkd_with_equal_widths_has_no_projections(ckd, sample, fusion):
    criterion, student = ckd("--ckd-layers", "pkd", "--ckd-fusion", fusion, student=WIDE)
    assert list(criterion.parameters()) == []
    expected = ckd_by_hand(criterion, student, sample, MAPS["pkd"], fusion=fusion)
    assert_same_loss_and_gradients(criterion, student, sample, expected)


# -- what is logged ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["student-up", "teacher-down"])
def test_logs_the_hidden_loss_and_the_mean_norms_of_both_sides(ckd, sample, fusion):
    criterion, student = ckd("--ckd-fusion", fusion)
    _, sample_size, logged = criterion(student, sample)
    tokens = single_tokens(sample["net_input"]["src_tokens"], criterion.padding_idx)
    projections = criterion.matches["encoder"].projections
    states = (states_of(model, sample)["encoder"] for model in (student, criterion.teacher.models[0]))
    hidden, *norms = hidden_by_hand(*states, tokens, MAPS["rc"], projections, fusion)
    with metrics.aggregate() as reported:
        type(criterion).reduce_metrics([logged, logged])
    values = reported.get_smoothed_values()
    assert values["hidden_loss"] == pytest.approx(hidden.item() / sample_size / math.log(2), abs=1e-3)
    for name, norm in zip(("student_norm", "teacher_norm"), norms, strict=True):
        assert values[name] == pytest.approx(norm / (2 * len(tokens)), abs=1e-3)


def test_the_validation_loss_is_the_plain_cross_entropy(ckd, sample):
    """And projections that nothing has trained, as in fairseq-validate, are not reported."""
    criterion, student = ckd("--ckd-decoder-layers", "rc", "--ckd-attention", "1")
    criterion.eval()
    student.eval()
    own = {"hidden_loss", "attention_loss", "student_norm", "teacher_norm"}
    with torch.no_grad():
        expected, _ = predictions_by_hand(student, criterion.teacher.models[0], sample, criterion.padding_idx)
        for updates, reported in ((0, set()), (1, own)):
            criterion.progress.updates = updates
            loss, _, logged = criterion(student, sample)
            torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
            assert own & set(logged) == reported


# -- lambda 0 ---------------------------------------------------------------------------------------------------------


def test_lambda_zero_is_word_kd_to_the_bit(ckd, sample):
    results = []
    for method, *flags in (("word_kd",), ("ckd", "--ckd-lambda", "0", "--ckd-decoder-layers", "rc")):
        criterion, student = ckd("--kd-alpha", "0.3", *flags, method=method)
        loss, _, logged = criterion(student, sample)
        loss.backward()
        results.append((loss.detach(), logged, gradients(student)))
        assert list(criterion.parameters()) == []
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


# -- projections ------------------------------------------------------------------------------------------------------


def test_projections_are_the_same_whatever_the_random_state(ckd, task):
    criterion, _ = ckd("--ckd-decoder-layers", "rc")
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(task.build_criterion(criterion.cfg).state_dict())
    assert len(states[0]) == 8
    assert all(value.std() > 0 for value in states[0].values())
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)


def test_building_the_projections_leaves_the_random_state_alone(ckd):
    random_states = []
    for method in ("word_kd", "ckd"):
        ckd(method=method)
        random_states.append(torch.get_rng_state())
    torch.testing.assert_close(*random_states)


def training_flags(deep_teachers, *flags):
    criterion = ["--criterion", "ckd", "--teacher-path", deep_teachers["post"], "--ckd-decoder-layers", "pkd"]
    return [*criterion, *STUDENT_LAYERS, "--label-smoothing", "0.1", "--disable-validation", *flags]


def assert_same_projections(run, other, **tolerance):
    torch.testing.assert_close(run.checkpoint()["criterion"], other.checkpoint()["criterion"], **tolerance)


def test_projections_are_trained_saved_beside_the_model_and_restored_to_the_bit(ckd, data, deep_teachers, tmp_path):
    flags = training_flags(deep_teachers, "--save-interval-updates", "2")
    undisturbed = train_here(data, tmp_path / "a", *flags, "--max-update", "5")
    train_here(data, tmp_path / "b", *flags, "--max-update", "2")
    restarted = train_here(data, tmp_path / "b", *flags, "--max-update", "5")
    assert restarted.values("train_inner", "loss") == undisturbed.values("train_inner", "loss")[2:]
    assert_same_parameters(restarted, undisturbed)
    assert_same_projections(restarted, undisturbed, rtol=0, atol=0)
    criterion, student = ckd("--ckd-decoder-layers", "pkd")
    saved = restarted.checkpoint()
    assert set(saved["model"]) == set(student.state_dict())
    assert set(saved["criterion"]) == set(criterion.state_dict())
    for name, value in criterion.float().state_dict().items():
        assert not torch.equal(saved["criterion"][name], value), f"{name} was not trained"


def test_half_precision_trains_with_finite_numbers(data, deep_teachers, tmp_path):
    flags = training_flags(deep_teachers, "--fp16", "--fp16-no-flatten-grads", "--ckd-attention", "0.1")
    run = train_here(data, tmp_path, *flags, "--max-update", "20", "--fp16-init-scale", "4")
    for name in ("loss", "hidden_loss", "attention_loss", "gnorm"):
        assert all(math.isfinite(value) for value in run.values("train_inner", name)), name
    assert len(run.values("train_inner", "loss")) == 20
    saved = run.checkpoint()
    assert all(value.isfinite().all() for part in ("model", "criterion") for value in saved[part].values())


@pytest.mark.parametrize("backend", ["legacy_ddp"])  # the other one is in the contract
def test_two_workers_with_a_restart_equal_one_with_twice_the_batch(backend, data, deep_teachers, tmp_path):
    flags = training_flags(deep_teachers, "--dropout", "0", "--save-interval-updates", "1")
    alone = train_here(data, tmp_path / "alone", *flags, "--max-update", "2", "--update-freq", "2")
    for last_update in ("1", "2"):
        finish(*two_workers(data, tmp_path / "both", backend, *flags, "--max-update", last_update))
    both = Run(tmp_path / "both")
    assert_same_parameters(both, alone, rtol=1e-4, atol=2e-5)
    assert_same_projections(both, alone, rtol=1e-4, atol=2e-5)


def test_a_plainly_trained_student_can_be_taken_up(data, deep_teachers, tmp_path):
    plain = train_here(data, tmp_path / "a", *PLAIN, *STUDENT_LAYERS, "--disable-validation", "--max-update", "2")
    taken_up = ["--restore-file", plain.save_dir / "checkpoint_last.pt", "--reset-optimizer", "--max-update", "2"]
    flags = training_flags(deep_teachers, *taken_up)
    frozen = train_here(data, tmp_path / "b", *flags, "--lr", "0")
    assert_same_parameters(frozen, plain)
    trained = train_here(data, tmp_path / "c", *flags)
    for name, value in trained.checkpoint()["criterion"].items():
        assert not torch.equal(value, frozen.checkpoint()["criterion"][name]), f"{name} was not trained"


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ckd-layers", "1,2;7"], "--ckd-layers: '1,2;7' names layer 7, but the teacher only has layers 1 to 6"),
        (["--ckd-layers", "0;1"], "--ckd-layers: '0;1' names layer 0, but the teacher only has layers 1 to 6"),
        (
            ["--ckd-decoder-layers", "1;5"],
            "--ckd-decoder-layers: '1;5' names layer 5, but the teacher only has layers 1 to 4",
        ),
        (["--ckd-layers", ""], "--ckd-layers is empty; it must be a map, unless --ckd-lambda is 0"),
        (["--ckd-layers", "1,2"], "--ckd-layers: '1,2' is a map for 1 student layers, but the student has 2"),
        (["--ckd-layers", "1;2;3"], "--ckd-layers: '1;2;3' is a map for 3 student layers, but the student has 2"),
        (
            ["--ckd-layers", "best"],
            "--ckd-layers: 'best' is neither a map like '1,2,3;4,5,6' nor one of pkd, rc, oc, sc, cc, interleaved",
        ),
        (["--ckd-fusion", "up"], "--ckd-fusion is up; it must be student-up or teacher-down"),
        (["--ckd-attention", "-1"], "--ckd-attention is -1.0; it must be 0 or more"),
        (["--ckd-lambda", "-0.1"], "--ckd-lambda is -0.1; it must be from 0 to 1"),
        (["--kd-alpha", "0.4"], "--ckd-lambda is 0.7; it must be at most 1 - alpha, with --kd-alpha 0.4"),
    ],
)
def test_settings_that_make_no_sense_are_named(ckd, flags, message):
    with pytest.raises(UserError) as error:
        ckd(*flags)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("student", "flags", "message"),
    [
        (["--encoder-layers", "7"], [], "--ckd-layers: 6 teacher layers cannot be spread over 7 student layers"),
        (
            ["--decoder-layers", "5"],
            ["--ckd-decoder-layers", "rc"],
            "--ckd-decoder-layers: 4 teacher layers cannot be spread over 5 student layers",
        ),
        (["--encoder-layers", "6"], ["--ckd-layers", "sc"], "--ckd-layers: 6 teacher layers are too few for 'sc' and"),
        (["--encoder-layerdrop", "0.1"], [], "ckd needs all layers of the student at every update; remove --encoder-l"),
        (["--decoder-layerdrop", "0.1"], [], "ckd needs all layers of the student at every update; remove --decoder-l"),
        (
            ["--encoder-attention-heads", "4"],
            ["--ckd-attention", "1"],
            "--encoder-attention-heads is 4; it must be 2 like the teacher's, for --ckd-attention",
        ),
        (
            ["--arch", "lstm_wiseman_iwslt_de_en"],
            [],
            "ckd compares transformer layers, but the student has a LSTMEncoder; choose a method",
        ),
    ],
)
def test_students_that_cannot_be_compared_are_refused(build, deep_teachers, student, flags, message):
    architecture = [*STUDENT, *student] if "--arch" not in student else student
    with pytest.raises(UserError) as error:
        build("ckd", "--teacher-path", deep_teachers["post"], *flags, architecture=architecture)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_several_teachers_are_refused(ckd, deep_teachers):
    with pytest.raises(
        UserError, match=r"^ckd compares layers with a single teacher; give one checkpoint with --teacher-path$"
    ):
        ckd(teacher=f"{deep_teachers['post']}:{deep_teachers['pre']}")


def test_a_teacher_without_transformer_layers_is_refused(ckd, data, tmp_path):
    lstm = ["--arch", "lstm", *WIDE, "--decoder-out-embed-dim", "24"]
    flags = ["--criterion", "cross_entropy", "--disable-validation", "--max-update", "1"]
    run = train_here(data, tmp_path, *flags, architecture=lstm)
    with pytest.raises(UserError, match=r"^ckd compares .* but the teacher has a LSTMEncoder; choose a method [^\n]*$"):
        ckd(teacher=run.save_dir / "checkpoint_last.pt")
