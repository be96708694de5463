"""Deep post-norm transformers with Admin, against a slow reference, in training and as teachers; the papers' sizes."""

import re
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY_TRANSFORMER, parse_training, train_here
from fairseq import checkpoint_utils, models, options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate
from test_training import STOP_AT_ONCE, assert_same_parameters
from torch.nn.functional import cross_entropy

from nmt_kd.architectures import profile, random_batch
from nmt_kd.errors import UserError

ADMIN = [*TINY_TRANSFORMER, "--arch", "transformer_admin", "--encoder-layers", "3", "--decoder-layers", "2"]
NO_DROPOUT = ["--dropout", "0"]
DEEP = [*TINY_TRANSFORMER, *("--encoder-layers", "18", "--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "256")]
DEEP += ["--decoder-layers", "18", "--decoder-embed-dim", "64", "--decoder-ffn-embed-dim", "256"]
BRIEFLY = ["--criterion", "cross_entropy", "--disable-validation"]


@pytest.fixture
def new_model(data, task):
    """A function that builds a model from flags, with the same random weights for the same flags."""

    def new_model(*flags, seed=1):
        torch.manual_seed(seed)
        return task.build_model(parse_training([data, *flags]).model)

    return new_model


@pytest.fixture(scope="module")
def admin_run(data, tmp_path_factory):
    return train_here(data, tmp_path_factory.mktemp("admin"), *BRIEFLY, "--max-update", "20", architecture=ADMIN)


@pytest.fixture
def trained(admin_run, task):
    """The trained model of `admin_run`, loaded from its checkpoint; its omegas differ between channels."""
    path = str(admin_run.save_dir / "checkpoint_last.pt")
    return checkpoint_utils.load_model_ensemble([path], task=task)[0][0].eval()


def omegas(half) -> torch.Tensor:
    """The omegas of an untrained encoder or decoder, [sub-layers]; each is the same in all channels."""
    vectors = torch.stack([omega.detach() for layer in half.layers for omega in layer.omegas])
    torch.testing.assert_close(vectors, vectors[:, :1].expand_as(vectors), rtol=0, atol=0)
    return vectors[:, 0]


def by_hand(model, net_input, weights):
    """Compute the logits [batch, length, V] with LayerNorm(x * omega + f(x)), and the variances of all f for each side.

    `weights(layer)` returns the omegas of a layer.
    """
    variances: dict[str, list[float]] = {"encoder": [], "decoder": []}

    def sublayer(x, norm, weight, output, side):
        variances[side].append(((output - output.mean()) ** 2).mean().item())
        return norm(x * weight + output)

    def feed_forward(layer, x):
        return layer.fc2(layer.fc1(x).relu())

    source, targets = net_input["src_tokens"], net_input["prev_output_tokens"]
    padding = source.eq(model.encoder.padding_idx)
    x = model.encoder.forward_embedding(source)[0].masked_fill(padding.unsqueeze(-1), 0).transpose(0, 1)
    for layer in model.encoder.layers:
        attention, feeding = weights(layer)
        output = layer.self_attn(x, x, x, key_padding_mask=padding)[0]
        x = sublayer(x, layer.self_attn_layer_norm, attention, output, "encoder")
        x = sublayer(x, layer.final_layer_norm, feeding, feed_forward(layer, x), "encoder")
    memory, decoder = x, model.decoder
    x = (decoder.embed_tokens(targets) * decoder.embed_scale + decoder.embed_positions(targets)).transpose(0, 1)
    future, target_padding = torch.full((len(x), len(x)), float("-inf")).triu(1), targets.eq(decoder.padding_idx)
    for layer in decoder.layers:
        attention, reading, feeding = weights(layer)
        output = layer.self_attn(x, x, x, key_padding_mask=target_padding, attn_mask=future)[0]
        x = sublayer(x, layer.self_attn_layer_norm, attention, output, "decoder")
        output = layer.encoder_attn(x, memory, memory, key_padding_mask=padding)[0]
        x = sublayer(x, layer.encoder_attn_layer_norm, reading, output, "decoder")
        x = sublayer(x, layer.final_layer_norm, feeding, feed_forward(layer, x), "decoder")
    return decoder.output_projection(x.transpose(0, 1)), variances


# -- what an omega is -------------------------------------------------------------------------------------------------


def test_every_omega_is_the_root_of_one_plus_the_variances_before_it(new_model, task):
    model = new_model(*ADMIN, *NO_DROPOUT)
    batch = random_batch(model, task.source_dictionary, task.target_dictionary)
    _, variances = by_hand(model, batch, lambda layer: [1] * len(layer.omegas))
    for side, of_side in variances.items():
        expected = [(1 + sum(of_side[:number])) ** 0.5 for number in range(len(of_side))]
        torch.testing.assert_close(omegas(getattr(model, side)), torch.tensor(expected))
        assert expected[-1] > 1.1


def test_every_sublayer_weights_its_input_channel_by_channel(trained, sample):
    logits, _ = trained(**sample["net_input"])
    expected, _ = by_hand(trained, sample["net_input"], lambda layer: layer.omegas)
    torch.testing.assert_close(logits, expected)


def test_with_omegas_of_one_it_is_fairseqs_transformer(new_model, sample):
    stock = new_model(*ADMIN, "--arch", "transformer").eval()
    admin = new_model(*ADMIN).eval()
    unknown = admin.load_state_dict(stock.state_dict(), strict=False)
    assert unknown.unexpected_keys == []
    assert all("omegas" in name for name in unknown.missing_keys)
    for name in unknown.missing_keys:
        torch.nn.init.ones_(admin.get_parameter(name))
    torch.testing.assert_close(admin(**sample["net_input"])[0], stock(**sample["net_input"])[0])


def test_the_variances_include_dropout(new_model):
    without, with_dropout = (omegas(new_model(*ADMIN, "--dropout", rate).encoder) for rate in ("0", "0.5"))
    assert (with_dropout[1:] > without[1:] * 1.02).all()


def test_profiling_on_random_symbols_matches_profiling_on_the_corpus(new_model, sample):
    model = new_model(*DEEP, "--arch", "transformer_admin")
    random = [omegas(half) for half in (model.encoder, model.decoder)]
    profile(model, sample["net_input"])
    for half, expected in zip((model.encoder, model.decoder), random, strict=True):
        torch.testing.assert_close(omegas(half), expected, rtol=0.1, atol=0)


def test_profiling_is_deterministic_and_has_no_side_effects(new_model):
    new_model(*ADMIN, "--arch", "transformer")
    expected_state = torch.get_rng_state()
    first = new_model(*ADMIN)
    torch.testing.assert_close(torch.get_rng_state(), expected_state)
    torch.testing.assert_close(first.state_dict(), new_model(*ADMIN).state_dict(), rtol=0, atol=0)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in first.parameters())
    assert first.training


def test_models_with_few_or_learned_positions_are_profiled(new_model):
    few = ["--max-source-positions", "5", "--max-target-positions", "4", "--decoder-learned-pos"]
    assert omegas(new_model(*ADMIN, *few).decoder)[-1] > 1


@pytest.mark.parametrize("flag", ["normalize-before", "layerdrop 0.1"])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_options_incompatible_with_admin_are_refused(new_model, side, flag):
    with pytest.raises(UserError, match=f"--{side}-{flag.split()[0]}.*leave it out") as error:
        new_model(*ADMIN, *f"--{side}-{flag}".split())
    assert "\n" not in str(error.value)


# -- what Admin achieves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "lowest", "highest"), [("transformer", 8, 1000), ("transformer_admin", 0.3, 3)]
)
def test_gradients_reach_the_first_decoder_layer(new_model, sample, architecture, lowest, highest):
    """In a deep post-norm decoder they vanish on the way, as the paper says, unlike in the encoder."""
    model = new_model(*DEEP, "--arch", architecture)
    cross_entropy(model(**sample["net_input"])[0].flatten(0, 1), sample["target"].flatten()).backward()
    first, last = (
        torch.cat([value.grad.flatten() for name, value in layer.named_parameters() if "omegas" not in name]).norm()
        for layer in (model.decoder.layers[0], model.decoder.layers[-1])
    )
    assert lowest < last / first < highest


def test_small_steps_change_a_deep_encoder_less(new_model, sample):
    """The paper's Theorem 2: a small step of all weights changes the output of an N-layer post-norm encoder by O(N).

    With Admin, as with pre-norm, the change is O(log N).
    """
    source = sample["net_input"]["src_tokens"], sample["net_input"]["src_lengths"]

    def change(architecture, depth, seed) -> float:
        flags = ["--arch", architecture, "--encoder-layers", str(depth), "--decoder-layers", "1"]
        encoder = new_model(*DEEP, *flags, seed=seed).encoder.eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            before = encoder(*source)["encoder_out"][0]
            for layer in encoder.layers:
                attention = layer.self_attn
                for part in (
                    attention.q_proj,
                    attention.k_proj,
                    attention.v_proj,
                    attention.out_proj,
                    layer.fc1,
                    layer.fc2,
                ):
                    step = torch.randn(part.weight.shape, generator=generator)
                    part.weight += 0.05 * part.weight.std() * step
            return (encoder(*source)["encoder_out"][0] - before).var().item()

    def growth(architecture) -> float:
        deep, shallow = (sum(change(architecture, depth, seed) for seed in (1, 2)) for depth in (18, 2))
        return deep / shallow

    post_norm, admin = growth("transformer"), growth("transformer_admin")
    assert post_norm > 9  # 18 / 2
    assert admin < 6  # log 18 / log 2 = 4.2


# -- trained ----------------------------------------------------------------------------------------------------------


def test_resumed_training_equals_uninterrupted_training_to_the_bit(data, tmp_path):
    flags = [*BRIEFLY, "--max-update", "4"]
    uninterrupted = train_here(data, tmp_path / "a", *flags, architecture=ADMIN)
    train_here(data, tmp_path / "b", *flags, *STOP_AT_ONCE, architecture=ADMIN)
    restarted = train_here(data, tmp_path / "b", *flags, architecture=ADMIN)
    assert len(restarted.statistics["train_inner"]) == 3
    assert_same_parameters(restarted, uninterrupted)


def test_omegas_are_trained_and_loaded_from_the_checkpoint(admin_run, trained, new_model):
    untrained = new_model(*ADMIN).state_dict()
    for name, value in admin_run.checkpoint()["model"].items():
        if "omegas" in name:
            torch.testing.assert_close(trained.get_parameter(name).detach(), value, rtol=0, atol=0)
            assert (value - untrained[name]).abs().max() > 0.01
            assert value.std() > 0.001


def test_recomputed_activations_give_the_same_gradients(new_model, sample):
    def gradients(*flags):
        model = new_model(*ADMIN, *NO_DROPOUT, *flags).double()
        model(**sample["net_input"])[0].square().sum().backward()
        return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}

    torch.testing.assert_close(gradients("--checkpoint-activations"), gradients())


def test_half_precision_trains_and_saves_the_omegas(data, tmp_path):
    half = {"fp16": True, "memory_efficient_fp16": True}
    run = train_here(data, tmp_path, *BRIEFLY, "--max-update", "12", architecture=ADMIN, common=half)
    omega = run.checkpoint()["model"]["decoder.layers.1.omegas.2"]  # fairseq always saves float32
    torch.testing.assert_close(omega.half().float(), omega, rtol=0, atol=0)
    assert omega.std() > 0.001
    losses = run.values("train_inner", "loss")
    assert sum(losses[-4:]) < sum(losses[:4])


@pytest.mark.parametrize("method", ["word_kd", "ckd"])
@pytest.mark.parametrize("student", [ADMIN, TINY_TRANSFORMER], ids=["admin", "stock"])
def test_admin_models_work_as_teacher_and_as_student(method, student, admin_run, trained, build, sample):
    path = admin_run.save_dir / "checkpoint_last.pt"
    criterion, model = build(method, "--teacher-path", path, architecture=student)
    loss, sample_size, log = criterion(model, sample)
    (loss / sample_size).backward()
    assert log["kd_loss"] > 0
    assert all(value.grad is not None for name, value in model.named_parameters() if "omegas" in name)
    torch.testing.assert_close(
        criterion.teacher.models[0](**sample["net_input"])[0], trained(**sample["net_input"])[0], rtol=0, atol=0
    )


# -- decoding ---------------------------------------------------------------------------------------------------------


def test_decoding_token_by_token_equals_decoding_at_once(trained, sample):
    targets = sample["net_input"]["prev_output_tokens"]
    encoder_out = trained.encoder(sample["net_input"]["src_tokens"], sample["net_input"]["src_lengths"])
    at_once = trained.decoder(targets, encoder_out=encoder_out)[0]
    state: dict[str, dict] = {}
    steps = [
        trained.decoder(targets[:, :end], encoder_out=encoder_out, incremental_state=state)[0]
        for end in range(1, targets.size(1) + 1)
    ]
    real = targets.ne(trained.decoder.padding_idx)
    torch.testing.assert_close(torch.cat(steps, dim=1)[real], at_once[real])


def test_fairseq_generate_translates_every_sentence(data, admin_run, capsys):
    arguments = [
        data,
        "--path",
        admin_run.save_dir / "checkpoint_last.pt",
        "--cpu",
        "--beam",
        "2",
        "--num-workers",
        "0",
    ]
    parsed = options.parse_args_and_arch(options.get_generation_parser(), [str(item) for item in arguments])
    generate.main(convert_namespace_to_omegaconf(parsed))
    assert len(set(re.findall(r"^H-(\d+)\t", capsys.readouterr().out, re.MULTILINE))) == 13


# -- the papers' sizes ------------------------------------------------------------------------------------------------

# fairseq 0.12.2 keeps a second copy of each encoder layer's weights for a fast path and counts it among the parameters.
FAST_PATH = re.compile(r"\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$")


def parameters(vocabulary_size: int, architecture: str, **settings) -> int:
    """Count the parameters of a model with shared embeddings without allocating them."""
    dictionary = Dictionary()
    for number in range(vocabulary_size - len(dictionary)):
        dictionary.add_symbol(str(number))
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    with torch.device("meta"):
        model = models.build_model(Namespace(arch=architecture, share_all_embeddings=True, **settings), task)
    return sum(value.numel() for name, value in model.named_parameters() if not FAST_PATH.search(name))


@pytest.mark.parametrize("special_symbols", [0, 4], ids=["included", "to be added"])
@pytest.mark.parametrize(
    ("vocabulary_size", "base", "big"),
    [(37184, 63.2, 214.4), (36528, 62.8, 213.8), (34976, 62.0, 212.2)],
    ids=["en-de", "en-fr", "en-ro"],
)
def test_model_sizes_match_the_tie_kd_paper(vocabulary_size, base, big, special_symbols):
    """Table 9. Its digits do not show whether the vocabularies include fairseq's four special symbols.

    The vocabulary sizes are multiples of 8, like those that fairseq-preprocess prints, which include the symbols.
    """
    symbols = vocabulary_size + special_symbols
    assert round(parameters(symbols, "transformer") / 1e6, 1) == base
    assert round(parameters(symbols, "transformer_wmt_en_de_big") / 1e6, 1) == big


def test_sizes_of_the_deep_teachers():
    """The paper does not give them. Admin adds a weight per channel and sub-layer, pre-norm adds two layer norms."""
    big = parameters(37184, "transformer_wmt_en_de_big", encoder_layers=18)
    assert big == 365_588_480
    assert parameters(37184, "transformer_wmt_en_de_big_18l_admin") == big + (18 * 2 + 6 * 3) * 1024
    assert parameters(37184, "transformer_wmt_en_de_big_t2t", encoder_layers=18) == big + 2 * 2 * 1024


@pytest.mark.parametrize(
    ("name", "total", "width", "feed_forward", "layers"),
    [
        ("tiny", 17_138_688, 256, 1536, (6, 2)),
        ("base_memory", 32_401_152, 384, 1536, (6, 4)),
        ("base", 43_706_368, 512, 2048, (6, 2)),
    ],
)
def test_sizes_of_the_students_to_ship(name, total, width, feed_forward, layers):
    """With 32,000 symbols, as Bergamot's. Every matrix is width x width or width x feed-forward, with a bias."""
    attention, norm = 4 * (width + 1) * width, 2 * width
    feed = 2 * width * feed_forward + width + feed_forward
    encoder, decoder = attention + feed + 2 * norm, 2 * attention + feed + 3 * norm
    assert total == 32_000 * width + layers[0] * encoder + layers[1] * decoder
    assert parameters(32_000, f"transformer_student_{name}") == total


def test_a_flag_changes_the_size_of_a_student_to_ship():
    smaller = parameters(32_000, "transformer_student_tiny", decoder_layers=1)
    assert parameters(32_000, "transformer_student_tiny") - smaller == 2 * 4 * 257 * 256 + 2 * 256 * 1536 + 1792 + 1536
