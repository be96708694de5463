"""Which of the teacher's layers each of the student's learns from (CKD, Wu et al., 2020, section 3.2).

Layers are numbered from 1. A map has one tuple of teacher layers for each student layer, from the lowest.
"""

import itertools
from collections.abc import Callable

LayerMap = list[tuple[int, ...]]


def regular(teacher_layers: int, student_layers: int) -> LayerMap:
    """RC: the teacher's layers in order, shared out evenly; 6 to 2 is (1, 2, 3), (4, 5, 6)."""
    edges = [index * teacher_layers // student_layers for index in range(student_layers + 1)]
    return [tuple(range(low + 1, high + 1)) for low, high in itertools.pairwise(edges)]


def overlapping(teacher_layers: int, student_layers: int) -> LayerMap:
    """OC: RC, one layer wider on each side; 6 to 2 is (1, 2, 3, 4), (3, 4, 5, 6)."""
    return [
        tuple(range(max(1, layers[0] - 1), min(teacher_layers, layers[-1] + 1) + 1))
        for layers in regular(teacher_layers, student_layers)
    ]


def skipping(teacher_layers: int, student_layers: int) -> LayerMap:
    """SC: windows of one layer less than RC's, spread from the first layer to the last; 6 to 2 is (1, 2), (5, 6)."""
    window = -(-teacher_layers // student_layers) - 1
    last_start = teacher_layers - window
    starts = [index * last_start // max(1, student_layers - 1) + 1 for index in range(student_layers)]
    return [tuple(range(start, start + window)) for start in starts]


def crossed(teacher_layers: int, student_layers: int) -> LayerMap:
    """CC: every second layer of RC, counted back from its last; 6 to 2 is (1, 3), (4, 6)."""
    return [tuple(layers[::-2][::-1]) for layers in regular(teacher_layers, student_layers)]


def interleaved(teacher_layers: int, student_layers: int) -> LayerMap:
    """The map that the paper's figure draws for CC; 6 to 2 is (1, 3, 5), (2, 4, 6)."""
    return [tuple(range(index + 1, teacher_layers + 1, student_layers)) for index in range(student_layers)]


def patient(teacher_layers: int, student_layers: int) -> LayerMap:
    """PKD: the last of RC; 6 to 2 is (3,), (6,)."""
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
    """The map of that name, or the one written out as "1,2,3;4,5,6", for models of these depths.

    Raises ValueError, with a line that says why, for a name that is not known, a map that names a layer that is not
    there or leaves a student layer out, and depths that a named map cannot be spread over.
    """
    if name in LAYER_MAPS:
        if teacher_layers < student_layers:
            raise ValueError(f"{teacher_layers} teacher layers cannot be spread over {student_layers} student layers")
        layers = LAYER_MAPS[name](teacher_layers, student_layers)
        if not all(layers):
            raise ValueError(
                f"{teacher_layers} teacher layers are too few for {name!r} and {student_layers} of a student"
            )
        return layers
    try:
        layers = [tuple(int(number) for number in group.split(",")) for group in name.split(";")]
    except ValueError:
        raise ValueError(f"{name!r} is neither a map like '1,2,3;4,5,6' nor one of {', '.join(LAYER_MAPS)}") from None
    if len(layers) != student_layers:
        raise ValueError(f"{name!r} maps {len(layers)} student layers, the student has {student_layers}")
    missing = [number for group in layers for number in group if not 1 <= number <= teacher_layers]
    if missing:
        raise ValueError(f"{name!r} names layer {missing[0]}, the teacher has layers 1 to {teacher_layers}")
    return layers
