"""A damaged conversion is refused; a translation that differs only by rounding is not."""

from dataclasses import replace
from functools import partial

import numpy
import pytest
import torch
from conftest import train_here
from ctranslate2.converters import fairseq as converter
from exports import SEARCH, export_student

from nmt_kd.checkpoints.reading import read_checkpoint_file
from nmt_kd.errors import UserError
from nmt_kd.exporting import export as module
from nmt_kd.exporting.faithfulness import as_good
from nmt_kd.exporting.systems import MeasuredSystem

FAITHFUL = ("float32", "float16")
TWO_LAYERS = [
    *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1", "--disable-validation"),
    *("--max-update", "150", "--lr", "0.01", "--max-tokens", "1500", "--encoder-layers", "2", "--decoder-layers", "2"),
]


@pytest.fixture(scope="module")
def two_layers(data, tmp_path_factory):
    """A student with layers whose order matters."""
    return train_here(data, tmp_path_factory.mktemp("two_layers"), *TWO_LAYERS).save_dir / "checkpoint_last.pt"


@pytest.fixture
def export_two_layers(corpus, two_layers, tmp_path):
    return partial(export_student, corpus=corpus, checkpoint=two_layers, output=tmp_path / "student")


# -- damaged conversions ----------------------------------------------------------------------------------------------


def positions_shifted(original):
    def convert(spec, module):
        original(spec, module)
        spec.encodings = numpy.roll(spec.encodings, 1, axis=0)

    return convert


def symbols_swapped(original):
    def convert(dictionary):
        symbols = original(dictionary)
        symbols[4], symbols[5] = symbols[5], symbols[4]  # the most frequent ones
        return symbols

    return convert


def layers_reversed(original):
    def convert(spec, module):
        module.layers = module.layers[::-1]
        original(spec, module)

    return convert


def weights_perturbed(original):
    def convert(spec, module):
        original(spec, module)
        noise = numpy.random.default_rng(1).standard_normal(spec.weight.shape)
        spec.weight = (spec.weight * (1 + 0.03 * noise)).astype(spec.weight.dtype)

    return convert


@pytest.mark.parametrize(
    ("step", "damage"),
    [
        ("set_position_encodings", positions_shifted),
        ("_get_vocab", symbols_swapped),
        ("set_transformer_encoder", layers_reversed),
        ("set_transformer_decoder", layers_reversed),
        ("set_linear", weights_perturbed),
    ],
)
def test_a_damaged_conversion_is_refused(export_two_layers, tmp_path, monkeypatch, step, damage):
    monkeypatch.setattr(converter, step, damage(getattr(converter, step)))
    for compute_type in FAITHFUL:
        message = f"{compute_type} model of .* translates only .* % of the sentences as well as fairseq does, less than"
        with pytest.raises(UserError, match=message):
            export_two_layers(compute_types=["int8", compute_type])
        assert list(tmp_path.iterdir()) == []


def test_the_same_student_is_exported_where_nothing_is_damaged(export_two_layers):
    _, *converted = export_two_layers(compute_types=FAITHFUL).results
    assert [result.as_good_percent for result in converted] == [100, 100]


def test_nonsense_is_refused_unless_the_type_is_only_measured(export_two_layers, tmp_path, monkeypatch):
    real = module.ctranslate2_system

    def deranged(*arguments):
        return replace(real(*arguments), translate=lambda numbers: ["\u2581nonsense"] * len(numbers))

    monkeypatch.setattr(module, "ctranslate2_system", deranged)
    for compute_type in FAITHFUL:
        with pytest.raises(UserError, match=rf"{compute_type} model of .* translates only 0.0 % of the sentences"):
            export_two_layers(compute_types=["int8", compute_type])
        assert list(tmp_path.iterdir()) == []
    result = export_two_layers(compute_types=["int8"]).results[1]
    assert [result.identical_percent, result.as_good_percent] == [0, 0]


# -- rounding ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_twins(two_layers, task, tmp_path):
    """A checkpoint in which each symbol has a twin with the same embedding, and the twins' names."""
    state = read_checkpoint_file(two_layers)
    symbols = task.target_dictionary.symbols
    half = (len(symbols) - 4) // 2  # the first four are special
    for name in ("encoder.embed_tokens", "decoder.embed_tokens", "decoder.output_projection"):
        weight = state["model"][f"{name}.weight"]
        weight[4 + half : 4 + 2 * half] = weight[4 : 4 + half]
    path = tmp_path / "twins/checkpoint.pt"
    path.parent.mkdir()
    torch.save(state, path)
    pairs = dict(zip(symbols[4 : 4 + half], symbols[4 + half : 4 + 2 * half], strict=True))
    return path, pairs | {other: one for one, other in pairs.items()}


def test_ties_are_as_good_though_not_identical(corpus, with_twins, tmp_path, monkeypatch):
    (checkpoint, twins), systems = with_twins, []
    real_fairseq, real_converted = module.fairseq_system, module.ctranslate2_system

    def recorded(*arguments):
        systems.append(real_fairseq(*arguments))
        return systems[-1]

    def tied(*arguments):
        def translate(numbers):
            texts = systems[0].translate(numbers)
            return [" ".join(twins.get(symbol, symbol) for symbol in text.split(" ")) for text in texts]

        return replace(real_converted(*arguments), translate=translate)

    monkeypatch.setattr(module, "fairseq_system", recorded)
    monkeypatch.setattr(module, "ctranslate2_system", tied)
    _, result = export_student(corpus, checkpoint, tmp_path / "out").results
    assert result.identical_percent < 95
    assert result.as_good_percent == 100


def test_float16_is_compared_with_fairseq_on_rounded_weights(corpus, seq_kd_teacher, tmp_path):
    """Rounding weights changes some translations, and the scores of most of these by far more than rounding."""
    measurement = replace(SEARCH, gen_subset="train", sentences=200)
    summary = export_student(
        corpus, seq_kd_teacher, tmp_path / "out", compute_types=["float16"], measurement=measurement
    )
    float16 = summary.results[1]
    assert float16.identical_percent < 100
    assert float16.as_good_percent >= 99  # a tie within the rounding of sums is possible, but rare


LENPEN = 0.6
A_TOKEN = 2**-13  # what the rounding of sums may change, in nats; ten tokens have 10 ** 0.4 times as much
TEN_TOKENS = A_TOKEN * 10**0.4


def system(scores, converted_to=None, best="own", computed_in="float32"):
    return MeasuredSystem(
        *("", converted_to, computed_in, 1, 1, 1.0),
        translate=lambda numbers: [f"{best} b c d e f g h i" for _ in numbers],
        score=lambda numbers, texts: [scores[text.split(" ")[0]] for text in texts],
    )


def verdict(converted, fairseq, rounded=None):
    texts = ["found b c d e f g h i"], ["own b c d e f g h i"]
    (good,) = as_good(converted, fairseq, lambda dtype: rounded, numpy.arange(1), *texts, LENPEN)
    return good


@pytest.mark.parametrize(("lower", "good"), [(-1, True), (0, True), (0.9, True), (1.1, False), (1e4, False)])
def test_only_a_score_that_is_lower_by_more_than_rounding_counts(lower, good):
    scores = {"own": -3.0, "found": -3.0 - lower * TEN_TOKENS}
    assert verdict(system(scores, "float32"), system(scores)) is good


@pytest.mark.parametrize("text", ["own", "found"])
@pytest.mark.parametrize(("off", "good"), [(0.9, True), (-0.9, True), (1.1, False), (-1.1, False)])
def test_both_systems_must_give_both_translations_the_same_scores(text, off, good):
    scores = {"own": -3.0, "found": -3.0}
    converted = {**scores, text: -3.0 + off * TEN_TOKENS}
    assert verdict(system(converted, "float32"), system(scores)) is good


@pytest.mark.parametrize(("off", "good"), [(120, True), (130, False)])
def test_rounding_to_float16_may_change_fairseqs_scores_only_as_far_as_it_explains(off, good):
    scores, rounded = {"own": -3.0, "found": -3.0}, dict.fromkeys(("own", "found"), -3.0 + off * TEN_TOKENS)
    assert verdict(system(rounded, "float16"), system(scores), system(rounded)) is good


def test_a_float16_model_is_held_to_what_fairseq_finds_with_rounded_weights():
    scores = {"own": -3.0, "found": -3.5, "own_rounded": -2.0}
    assert not verdict(system(scores, "float32"), system(scores))
    assert verdict(system(scores, "float16"), system(scores), system(scores, best="found"))
    assert not verdict(system(scores, "float16"), system(scores), system(scores, best="own_rounded"))


@pytest.mark.parametrize("score", [float("-inf"), float("nan")])
def test_what_fairseq_cannot_produce_is_never_as_good(score):
    scores = {"own": score, "found": score}
    for converted_to in ("float32", "int8"):
        assert not verdict(system({"own": -3.0, "found": -3.0}, converted_to), system(scores))


@pytest.mark.parametrize(
    ("converted_to", "computed_in"), [("int8", "int8_float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")]
)
def test_of_other_types_only_the_search_is_compared(converted_to, computed_in):
    converted = system({"own": -9.0, "found": -9.0}, converted_to, computed_in=computed_in)
    assert verdict(converted, system({"own": -3.0, "found": -3.0}))
    assert not verdict(converted, system({"own": -3.0, "found": -3.1}))
