"""Layer maps: which teacher layers each student layer learns from (CKD, Wu et al., 2020, section 3.2).

Layers are numbered from 1. A map has one tuple of teacher layers for each student layer, starting from the lowest.
"""

import itertools
from collections.abc import Callable

LayerMap = list[tuple[int, ...]]


def regular(teacher_layers: int, student_layers: int) -> LayerMap:
    """RC: divide the teacher's layers evenly, in order; 6 to 2 is (1, 2, 3), (4, 5, 6)."""
    edges = [index * teacher_layers // student_layers for index in range(student_layers + 1)]
    return [tuple(range(low + 1, high + 1)) for low, high in itertools.pairwise(edges)]


def overlapping(teacher_layers: int, student_layers: int) -> LayerMap:
    """OC: extend each group of RC by one layer on both sides; 6 to 2 is (1, 2, 3, 4), (3, 4, 5, 6)."""
    return [
        tuple(range(max(1, layers[0] - 1), min(teacher_layers, layers[-1] + 1) + 1))
        for layers in regular(teacher_layers, student_layers)
    ]


def skipping(teacher_layers: int, student_layers: int) -> LayerMap:
    """SC: one layer fewer per group than RC, spread from the first layer to the last; 6 to 2 is (1, 2), (5, 6)."""
    window = -(-teacher_layers // student_layers) - 1
    last_start = teacher_layers - window
    starts = [index * last_start // max(1, student_layers - 1) + 1 for index in range(student_layers)]
    return [tuple(range(start, start + window)) for start in starts]


def crossed(teacher_layers: int, student_layers: int) -> LayerMap:
    """CC: every second layer of each group of RC, counting back from its last; 6 to 2 is (1, 3), (4, 6)."""
    return [tuple(layers[::-2][::-1]) for layers in regular(teacher_layers, student_layers)]


def interleaved(teacher_layers: int, student_layers: int) -> LayerMap:
    """The map shown for CC in the paper's figure; 6 to 2 is (1, 3, 5), (2, 4, 6)."""
    return [tuple(range(index + 1, teacher_layers + 1, student_layers)) for index in range(student_layers)]


def patient(teacher_layers: int, student_layers: int) -> LayerMap:
    """PKD: the last layer of each group of RC; 6 to 2 is (3,), (6,)."""
    return [layers[-1:] for layers in regular(teacher_layers, student_layers)]


LAYER_MAPS: dict[str, Callable[[int, int], LayerMap]] = {
    "pkd": patient,
    "rc": regular,
    "oc": overlapping,
    "sc": skipping,
    "cc": crossed,
    "interleaved": interleaved,
}


def layer_map(name: str, teacher_layers: int, student_layers: int) -> LayerMap:
    """Return the map called `name`, or given explicitly as in "1,2,3;4,5,6", for models of these depths.

    Raises ValueError, with a one-line explanation, if the name is unknown, if an explicit map contains a layer that the
    teacher does not have or does not cover each student layer, or if a named map does not fit the depths.
    """
    if name in LAYER_MAPS:
        if teacher_layers < student_layers:
            raise ValueError(f"{teacher_layers} teacher layers cannot be spread over {student_layers} student layers")
        layers = LAYER_MAPS[name](teacher_layers, student_layers)
        if not all(layers):
            raise ValueError(
                f"{teacher_layers} teacher layers are too few for {name!r} and {student_layers} student layers"
            )
        return layers
    try:
        layers = [tuple(int(number) for number in group.split(",")) for group in name.split(";")]
    except ValueError:
        raise ValueError(f"{name!r} is neither a map like '1,2,3;4,5,6' nor one of {', '.join(LAYER_MAPS)}") from None
    if len(layers) != student_layers:
        raise ValueError(f"{name!r} is a map for {len(layers)} student layers, but the student has {student_layers}")
    missing = [number for group in layers for number in group if not 1 <= number <= teacher_layers]
    if missing:
        raise ValueError(f"{name!r} names layer {missing[0]}, but the teacher only has layers 1 to {teacher_layers}")
    return layers
