import pytest
import torch
from fairseq.data import Dictionary

from nmt_kd.errors import UserError
from nmt_kd.evaluation import agreement_measures as measures


def slow_ranking(logits: list[float]) -> list[int]:
    """All symbols, most probable first; ties go in vocabulary order."""
    return sorted(range(len(logits)), key=lambda symbol: (-logits[symbol], symbol))


def slow_edit_distance(first: list[int], second: list[int]) -> int:
    """The textbook algorithm, cell by cell."""
    table = [[max(i, j) for j in range(len(second) + 1)] for i in range(len(first) + 1)]
    for i, symbol in enumerate(first, 1):
        for j, other in enumerate(second, 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (symbol != other))
    return table[-1][-1]


def slow_displacement(teacher: list[float], student: list[float], top_k: int) -> int:
    """Sum of min(k, |i - r_s(t_i)|), ranks from 1 over the whole vocabulary."""
    student_order = slow_ranking(student)
    distances = []
    for i, symbol in enumerate(slow_ranking(teacher)[:top_k], 1):
        distances.append(min(top_k, abs(i - (student_order.index(symbol) + 1))))
    return sum(distances)


def random_logits(tokens, vocabulary, seed, values=None):
    generator = torch.Generator().manual_seed(seed)
    if values is None:
        return torch.randn(tokens, vocabulary, generator=generator)
    return torch.randint(values, (tokens, vocabulary), generator=generator).float()


@pytest.mark.parametrize("values", [None, 2, 5], ids=["distinct", "two values", "five values"])
@pytest.mark.parametrize(("vocabulary", "top_k"), [(7, 1), (7, 3), (7, 7), (1500, 1), (1500, 5), (1500, 9)])
def test_ranking_sorts_by_probability_with_ties_in_vocabulary_order(vocabulary, top_k, values):
    logits = random_logits(20, vocabulary, 1, values)
    assert measures.ranking(logits, top_k).tolist() == [slow_ranking(row)[:top_k] for row in logits.tolist()]


def test_edit_distance_matches_the_textbook_algorithm():
    generator = torch.Generator().manual_seed(2)
    for length in (1, 2, 5, 8):
        first, second = (torch.randint(6, (200, length), generator=generator) for _ in range(2))
        slow = [slow_edit_distance(*pair) for pair in zip(first.tolist(), second.tolist(), strict=True)]
        assert measures.edit_distance(first, second).tolist() == slow


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], 0),
        ([1, 2, 3, 4, 5], [2, 3, 4, 5, 6], 2),  # one deletion, one insertion
        ([1, 2, 3, 4, 5], [2, 1, 3, 4, 5], 2),
        ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], 4),
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 5),
    ],
)
def test_edit_distance_of_small_examples(first, second, distance):
    assert measures.edit_distance(torch.tensor([first]), torch.tensor([second])).item() == distance


@pytest.mark.parametrize("values", [None, 3], ids=["distinct", "three values"])
@pytest.mark.parametrize(("vocabulary", "top_k"), [(6, 1), (6, 4), (6, 6), (40, 5), (700, 5)])
def test_each_count_of_a_token_matches_its_definition(vocabulary, top_k, values):
    student, teacher = (random_logits(30, vocabulary, seed, values) for seed in (3, 4))
    student = (student + teacher) / 2  # similar enough for ranks between k and 2k to occur
    gold = torch.randint(vocabulary, (30,), generator=torch.Generator().manual_seed(5))
    gold[:10] = teacher[:10].argmax(-1)
    counts, confidence = measures.compare(student, teacher, gold, top_k)
    for token, (ours, theirs, reference) in enumerate(
        zip(student.tolist(), teacher.tolist(), gold.tolist(), strict=True)
    ):
        first, second = slow_ranking(ours), slow_ranking(theirs)
        assert counts[token].tolist() == [
            1,
            int(first[0] == second[0]),
            slow_edit_distance(first[:top_k], second[:top_k]),
            slow_displacement(theirs, ours, top_k),
            int(second[0] == reference),
            int(first[0] == reference),
        ]
    highest = torch.stack([student.softmax(-1).amax(-1), teacher.softmax(-1).amax(-1)], dim=1)
    assert torch.allclose(confidence, highest, rtol=1e-6)


def test_a_rank_just_below_twice_k_counts_less_than_k():
    teacher = -torch.arange(20.0).unsqueeze(0)
    student = teacher.clone()
    student[0, 4] = -8.5  # the teacher's fifth is the student's ninth, four places down; the others move up
    assert measures.displacement(measures.ranking(teacher, 5), measures.ranking(student, 9)).item() == 4


def test_with_top_1_lists_both_distances_count_different_first_choices():
    student, teacher = random_logits(50, 4, 6), random_logits(50, 4, 7)
    counts, _ = measures.compare(student, teacher, torch.zeros(50, dtype=torch.long), 1)
    total = dict(zip(measures.COUNTS, counts.sum(0).tolist(), strict=True))
    assert 0 < total["agreeing"] < 50
    assert total["edits"] == total["displacement"] == 50 - total["agreeing"]


def test_half_precision_logits_give_the_same_counts_and_a_float32_confidence():
    logits = random_logits(5, 30, 8).half()
    counts, confidence = measures.compare(logits, logits, logits.argmax(-1), 5)
    assert counts.tolist() == [[1, 1, 0, 0, 1, 1]] * 5
    assert confidence.dtype == torch.float32


def test_no_tokens_give_no_counts():
    counts, confidence = measures.compare(torch.empty(0, 9), torch.empty(0, 9), torch.empty(0, dtype=torch.long), 5)
    assert counts.shape == (0, 6)
    assert confidence.shape == (0, 2)


def test_labels_describe_the_buckets():
    confidence, source, target, frequency = measures.groupings(measures.Bounds(length=(1, 2, 9)), words=5000)
    assert confidence.labels == ("(0, 0.4]", "(0.4, 0.7]", "(0.7, 1]")
    assert source.labels == target.labels == ("1", "2", "3-9", "10+")
    assert frequency.labels == ("special symbols", "1-100", "101-1,000", "1,001+")


def test_upper_bounds_are_inclusive():
    groupings = measures.groupings(measures.Bounds(), words=50000)
    sums = measures.BucketSums(groupings, torch.device("cpu"))
    sums.add(
        torch.ones(6, 6, dtype=torch.long),
        {
            "teacher_confidence": torch.tensor([0.1, 0.4, 0.41, 0.7, 1.0, 1.0000002]),
            "source_length": torch.tensor([1, 10, 11, 20, 21, 41]),
            "target_length": torch.tensor([1, 40, 41, 99, 100, 10]),
            "frequency_rank": torch.tensor([0, 1, 100, 101, 10000, 10001]),
        },
    )
    assert [sums.sums[grouping.name][:, 0].tolist() for grouping in groupings] == [
        [2, 2, 2],
        [2, 2, 1, 1],
        [2, 0, 1, 3],
        [1, 2, 1, 1, 1],
    ]
    assert sums.total.tolist() == [6] * 6


@pytest.mark.parametrize(
    ("bounds", "flag"),
    [
        ({"confidence": (0.7, 0.4)}, "--confidence-bounds is 0.7 0.4"),
        ({"confidence": (0.4, 0.4)}, "--confidence-bounds"),
        ({"confidence": (0, 0.4)}, "--confidence-bounds"),
        ({"confidence": (0.4, 1)}, "--confidence-bounds"),
        ({"confidence": ()}, "--confidence-bounds"),
        ({"confidence": (float("nan"),)}, "--confidence-bounds"),
        ({"length": (20, 10)}, "--length-bounds"),
        ({"frequency": (0, 10)}, "--frequency-bounds"),
    ],
)
def test_bounds_must_increase_within_their_range(bounds, flag):
    with pytest.raises(UserError, match=f"^{flag}.*it must be increasing numbers"):
        measures.Bounds(**bounds)


def test_frequency_ranks_go_by_count_then_by_position_in_the_dictionary():
    dictionary = Dictionary()
    for symbol, count in (("a", 2), ("b", 7), ("c", 2), ("d", 9)):
        dictionary.add_symbol(symbol, count)
    assert measures.frequency_ranks(dictionary).tolist() == [0, 0, 0, 0, 3, 2, 4, 1]
