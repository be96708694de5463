import itertools

import pytest

from nmt_kd.losses.schedule import annealing_scale, lead_factor, linear


def test_linear_starts_and_ends_exactly_and_has_equal_steps():
    values = [linear(1.1, 1.0, update, 11) for update in range(11)]
    assert values[0] == 1.1
    assert values[-1] == 1.0
    assert [before - after for before, after in itertools.pairwise(values)] == pytest.approx([0.01] * 10)


def test_linear_stays_at_its_end():
    assert {linear(10.0, 1.0, update, 5) for update in (4, 5, 1000)} == {1.0}


@pytest.mark.parametrize("updates", [0, 1])
def test_linear_without_updates_returns_its_end(updates):
    assert linear(1.1, 1.0, 0, updates) == 1.0


@pytest.mark.parametrize(("temperature", "expected"), [(10, 0.1), (5.5, 0.55), (2, 0.9), (1, 1.0), (0.5, 1.0)])
def test_the_annealing_scale_rises_to_one_and_no_further(temperature, expected):
    assert annealing_scale(temperature, 10) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("lead", "factor"), [(-30.0, 1.0), (0.0, 1.0), (0.999, 1.0), (1.0, 0.0), (1.001, 0.0), (40.0, 0.0)]
)
def test_a_threshold_ends_distillation_once_the_student_is_a_point_ahead(lead, factor):
    assert lead_factor(lead, 1.0, gradually=False) == factor


@pytest.mark.parametrize(
    ("lead", "factor"), [(-30.0, 1.0), (-2.001, 1.0), (-2.0, 1.0), (-1.0, 0.5), (0.0, 0.25), (1.5, 0.5**3.5)]
)
def test_the_adaptive_rule_halves_the_weight_with_each_point(lead, factor):
    assert lead_factor(lead, -2.0, gradually=True) == factor
