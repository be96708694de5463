"""Quantise a model for CTranslate2 to int8 so that no product overflows, whatever the CPU.

Without VNNI, x86 processors multiply bytes with `vpmaddubsw`: two neighbouring products of an activation, 0 to 255, and
a weight are added in 16 bits, and a sum above 32,767 is cut off. CTranslate2 scales each row of a matrix to a maximum
of 127, so two large neighbours overflow: 255 * (127 + 127) = 64,770. Firefox's engine avoids this by limiting all
weights to 7 bits. It is enough to limit neighbours: here each row is scaled such that the weights of one sign in a pair
sum to at most 128, which costs 0.4 bits of precision instead of 1 (measured on trained students).
"""

from typing import Any

import numpy

LARGEST_SUM = 127  # of two weights of one sign before rounding, which can add 1/2 to each: 255 * 128 < 2 ** 15
LARGEST_SCALE = float(numpy.finfo(numpy.float32).max) / 2


def quantise_rows(weight: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return `weight`, [rows, columns], as int8, and the scale of each row, by which it is to be divided, as float32.

    The columns 2i and 2i + 1 form a pair.
    """
    even = numpy.pad(weight.astype(numpy.float32), ((0, 0), (0, weight.shape[1] % 2)))
    pairs = even.reshape(len(even), -1, 2)
    sums = [numpy.maximum(sign * pairs, 0).sum(axis=2).max(axis=1, initial=0) for sign in (1, -1)]
    largest = numpy.maximum(*sums)
    largest[largest == 0] = LARGEST_SUM
    scale = numpy.minimum(LARGEST_SUM / largest.astype(numpy.float64), LARGEST_SCALE).astype(numpy.float32)
    return numpy.rint(weight * scale[:, None]).astype(numpy.int8), scale


def quantise(spec: Any) -> Any:
    """Quantise all matrices of a specification that CTranslate2's converter has loaded, and return it.

    CTranslate2 keeps them if it is then told to save the model without quantising it.
    """
    from ctranslate2.specs.model_spec import visit_spec

    def quantise_one(layer: Any, name: str, value: Any) -> None:
        if name.rpartition("/")[2] == "weight" and hasattr(layer, "weight_scale") and numpy.ndim(value) == 2:
            layer.weight, layer.weight_scale = quantise_rows(numpy.asarray(value))

    visit_spec(spec, quantise_one)
    return spec
