"""Matrices in int8 come close to those in float32, and no sum of two products overflows 16 bits."""

import numpy
import pytest

from nmt_kd.decoding.int8 import quantise_rows


def dequantised(weight):
    quantised, scale = quantise_rows(weight)
    assert (quantised.dtype, scale.dtype) == (numpy.int8, numpy.float32)
    return quantised / scale[:, None]


def worst_sums(quantised):
    """The largest and the smallest sum of two neighbouring products with activations of 0 to 255."""
    wide = numpy.pad(quantised.astype(int), ((0, 0), (0, quantised.shape[1] % 2))).reshape(len(quantised), -1, 2)
    return 255 * numpy.maximum(wide, 0).sum(axis=2).max(), 255 * numpy.minimum(wide, 0).sum(axis=2).min()


@pytest.mark.parametrize("columns", [1, 7, 64])
def test_no_sum_of_two_products_overflows(columns):
    weight = numpy.random.default_rng(1).standard_normal((300, columns)).astype(numpy.float32)
    highest, lowest = worst_sums(quantise_rows(weight)[0])
    assert 30_000 < highest <= 2**15 - 1
    assert -30_000 > lowest >= -(2**15)


def test_each_row_is_rounded_to_its_own_scale():
    weight = numpy.random.default_rng(1).standard_normal((8, 64)).astype(numpy.float32)
    weight *= numpy.logspace(-6, 6, 8)[:, None]
    _, scale = quantise_rows(weight)
    assert (abs(dequantised(weight) - weight) <= 0.5001 / scale[:, None]).all()


def test_only_neighbours_of_one_sign_cost_precision():
    alone, opposite, alike = ([[1.0, 0.0]], [[1.0, -1.0]], [[1.0, 1.0]])
    scales = [quantise_rows(numpy.array(weight, dtype=numpy.float32))[1].item() for weight in (alone, opposite, alike)]
    assert scales == [127, 127, 63.5]
    assert quantise_rows(numpy.array([[0.0, 1.0, 1.0, 0.0]], dtype=numpy.float32))[1].item() == 127  # not a pair


def test_rows_of_zeros_and_of_tiny_numbers_stay_finite():
    weight = numpy.array([[0.0, 0.0], [1e-44, 0.0], [-1e-38, 1e-38]], dtype=numpy.float32)
    assert numpy.isfinite(dequantised(weight)).all()
    assert (dequantised(weight)[0] == 0).all()
    assert dequantised(weight)[2] == pytest.approx([-1e-38, 1e-38], rel=0.01)
