import pytest

from nmt_kd.losses.layer_map import LAYER_MAPS, layer_map


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rc", [(1, 2, 3), (4, 5, 6)]),
        ("oc", [(1, 2, 3, 4), (3, 4, 5, 6)]),
        ("sc", [(1, 2), (5, 6)]),
        ("cc", [(1, 3), (4, 6)]),
        ("pkd", [(3,), (6,)]),
        ("interleaved", [(1, 3, 5), (2, 4, 6)]),
        ("1,2;6", [(1, 2), (6,)]),
        (" 2 ; 1 , 1", [(2,), (1, 1)]),
    ],
)
def test_six_layers_to_two_match_the_paper(name, expected):
    assert layer_map(name, 6, 2) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rc", [(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)]),
        ("oc", [(1, 2, 3, 4), (3, 4, 5, 6, 7), (6, 7, 8, 9, 10), (9, 10, 11, 12)]),
        ("sc", [(1, 2), (4, 5), (7, 8), (11, 12)]),
        ("cc", [(1, 3), (4, 6), (7, 9), (10, 12)]),
        ("pkd", [(3,), (6,), (9,), (12,)]),
        ("interleaved", [(1, 5, 9), (2, 6, 10), (3, 7, 11), (4, 8, 12)]),
    ],
)
def test_twelve_layers_to_four_follow_the_same_rules(name, expected):
    assert layer_map(name, 12, 4) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rc", [(1, 2), (3, 4, 5)]),
        ("oc", [(1, 2, 3), (2, 3, 4, 5)]),
        ("sc", [(1, 2), (4, 5)]),
        ("cc", [(2,), (3, 5)]),
        ("pkd", [(2,), (5,)]),
        ("interleaved", [(1, 3, 5), (2, 4)]),
    ],
)
def test_indivisible_depths_give_the_upper_student_layers_more(name, expected):
    assert layer_map(name, 5, 2) == expected


@pytest.mark.parametrize("name", sorted(LAYER_MAPS))
@pytest.mark.parametrize(("teacher_layers", "student_layers"), [(3, 2), (5, 2), (6, 1), (7, 3), (18, 4)])
def test_every_student_layer_learns_from_existing_teacher_layers(name, teacher_layers, student_layers):
    groups = layer_map(name, teacher_layers, student_layers)
    assert len(groups) == student_layers
    assert all(1 <= layer <= teacher_layers for group in groups for layer in group)
    assert all(group == tuple(sorted(set(group))) for group in groups)


@pytest.mark.parametrize("name", ["rc", "cc", "pkd", "interleaved"])
def test_models_of_the_same_depth_are_matched_layer_by_layer(name):
    assert layer_map(name, 3, 3) == [(1,), (2,), (3,)]


def test_overlaps_of_models_of_the_same_depth_are_clipped_at_both_ends():
    assert layer_map("oc", 3, 3) == [(1, 2), (1, 2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("name", "depths", "message"),
    [
        ("rc", (2, 3), "2 teacher layers cannot be spread over 3 student layers"),
        ("sc", (3, 3), "3 teacher layers are too few for 'sc' and 3 student layers"),
        ("1,2;7", (6, 2), "'1,2;7' names layer 7, but the teacher only has layers 1 to 6"),
        ("0;1", (6, 2), "'0;1' names layer 0, but the teacher only has layers 1 to 6"),
        ("1,2,3", (6, 2), "'1,2,3' is a map for 1 student layers, but the student has 2"),
        ("best", (6, 2), "'best' is neither a map like '1,2,3;4,5,6' nor one of pkd, rc, oc, sc, cc, interleaved"),
        ("1;;2", (6, 2), "'1;;2' is neither a map like"),
        ("", (6, 2), "'' is neither a map like"),
        ("1.5;2", (6, 2), "'1.5;2' is neither a map like"),
        ("1;-2", (6, 2), "'1;-2' names layer -2, but the teacher only has layers 1 to 6"),
    ],
)
def test_invalid_maps_are_refused(name, depths, message):
    with pytest.raises(ValueError, match="^" + message):
        layer_map(name, *depths)
