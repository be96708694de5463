"""Compare two models token by token, and sum the results over buckets of tokens.

All counts are integers, so the sums are exact, whatever the order of the tokens, the batch size and the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from fairseq.data import Dictionary
from torch import Tensor

from nmt_kd.engine.chunks import chunk_slices, default_chunk_tokens
from nmt_kd.engine.teacher import ModelPredictions
from nmt_kd.losses.precision import log_probabilities
from nmt_kd.losses.top_k import top_k_indices
from nmt_kd.options import require

# The columns of the counts that `compare` returns.
COUNTS = ("tokens", "agreeing", "edits", "displacement", "teacher_correct", "student_correct")


def ranking(logits: Tensor, top_k: int) -> Tensor:
    """Return the `top_k` most probable symbols, [tokens, top_k], most probable first; ties go in vocabulary order.

    `logits` is [tokens, V].
    """
    # One candidate more than needed reveals a tie for the last place, where `topk` picks an arbitrary symbol. Ties are
    # rare, so only these rows are sorted in full.
    candidates = min(top_k + 1, logits.size(-1))
    found = top_k_indices(logits, candidates).sort(-1).values
    values, order = logits.gather(-1, found).sort(dim=-1, descending=True, stable=True)
    found = found.gather(-1, order)[:, :top_k]
    if candidates > top_k:
        tied = values[:, -1] == values[:, -2]
        found[tied] = logits[tied].sort(dim=-1, descending=True, stable=True).indices[:, :top_k]
    return found


def edit_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the Levenshtein distance between the lists `first` and `second` of each token, [tokens].

    Both lists are [tokens, k]. Insertions, deletions and substitutions cost 1, so the distance is between 0 and k (the
    TIE-KD paper's "top-k edit distance").
    """
    tokens, length = second.shape
    differs = first.unsqueeze(2) != second.unsqueeze(1)
    step = torch.arange(length + 1, device=first.device)
    row = step.expand(tokens, -1)
    for position in range(first.size(1)):
        after_deletion = row + 1
        after_substitution = row[:, :-1] + differs[:, position]
        best = torch.cat([after_deletion[:, :1], torch.minimum(after_deletion[:, 1:], after_substitution)], dim=1)
        row = (best - step).cummin(1).values + step  # any number of insertions after the best start
    return row[:, -1]


def displacement(teacher_top: Tensor, student_ranking: Tensor) -> Tensor:
    """Return the sum of `min(k, |i - r_s(t_i)|)` over the teacher's top k symbols, [tokens], from 0 to k^2.

    t_i is the teacher's i-th symbol in `teacher_top` [tokens, k], and r_s(t_i) its rank in `student_ranking`
    [tokens, m], the student's top m. A symbol that is missing there counts k, which is exact if m >= 2k - 1, because
    lower ranks are at least k places away. Divided by k, this is the TIE-KD paper's "top-k ranking distance".
    """
    top_k = teacher_top.size(1)
    found = teacher_top.unsqueeze(2) == student_ranking.unsqueeze(1)
    places = torch.arange(top_k, device=teacher_top.device)
    distance = (found.to(torch.uint8).argmax(2) - places).abs().clamp(max=top_k)
    return torch.where(found.any(2), distance, top_k).sum(1)


def compare(student_logits: Tensor, teacher_logits: Tensor, gold: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the COUNTS of each token, [tokens, 6], and the highest probabilities of student and teacher, [tokens, 2].

    Both logits are [tokens, V]; `gold` [tokens] are the gold tokens.
    """
    student = ranking(student_logits, min(2 * top_k - 1, student_logits.size(-1)))
    teacher = ranking(teacher_logits, top_k)
    counts = [
        torch.ones_like(gold),
        student[:, 0] == teacher[:, 0],
        edit_distance(teacher, student[:, :top_k]),
        displacement(teacher, student),
        teacher[:, 0] == gold,
        student[:, 0] == gold,
    ]
    confidence = [log_probabilities(logits).amax(-1).exp() for logits in (student_logits, teacher_logits)]
    return torch.stack([count.long() for count in counts], dim=1), torch.stack(confidence, dim=1)


def compare_models(
    student: ModelPredictions, teacher: ModelPredictions, gold: Tensor, top_k: int
) -> tuple[Tensor, Tensor]:
    """Return `compare` of two models on a batch, with the logits of one chunk of tokens in memory at a time."""
    chunk_tokens = default_chunk_tokens(student.projections[0].vocabulary_size, gold.device)
    chunks = [
        compare(student.logits(rows), teacher.logits(rows), gold[rows], top_k)
        for rows in chunk_slices(gold.numel(), chunk_tokens)
    ]
    counts, confidence = zip(*chunks, strict=True)
    return torch.cat(counts), torch.cat(confidence)


@dataclass(frozen=True)
class Grouping:
    """Buckets of target tokens by some number: bucket i holds the tokens with bounds[i - 1] < number <= bounds[i]."""

    name: str  # in JSON
    title: str  # in tables
    axis: str  # the axis label in plots
    bounds: tuple[float, ...]
    labels: tuple[str, ...]  # one more than there are bounds


@dataclass(frozen=True)
class Bounds:
    """The upper bounds of all buckets but the last. Raises UserError if they are out of range or not increasing."""

    confidence: Sequence[float] = (0.4, 0.7)  # the TIE-KD paper's
    length: Sequence[int] = (10, 20, 40)
    frequency: Sequence[int] = (100, 1000, 10000)

    def __post_init__(self):
        confidence, shown = self.confidence, " ".join(map(str, self.confidence))
        holds = _increase(confidence) and confidence[0] > 0 and confidence[-1] < 1
        require(holds, "--confidence-bounds", shown, "increasing numbers between 0 and 1, such as 0.4 0.7")
        for flag, bounds in (("--length-bounds", self.length), ("--frequency-bounds", self.frequency)):
            holds, shown = _increase(bounds) and bounds[0] >= 1, " ".join(map(str, bounds))
            require(holds, flag, shown, "increasing numbers, 1 or more, such as 10 20 40")


def _increase(bounds: Sequence[float]) -> bool:
    return len(bounds) > 0 and all(low < high for low, high in pairwise(bounds))


def groupings(bounds: Bounds, words: int) -> list[Grouping]:
    """Return the groupings of a report; `words` is the number of symbols that have a frequency rank.

    The length of a sentence is counted in subword tokens, including the </s>.
    """
    edges = (0, *bounds.confidence, 1)
    intervals = tuple(f"({low}, {high}]" for low, high in pairwise(edges))
    lengths = tuple(bounds.length), _range_labels(bounds.length)
    ranks = [bound for bound in bounds.frequency if bound < words]
    return [
        Grouping(
            "teacher_confidence",
            "teacher's confidence",
            "teacher's highest probability",
            tuple(bounds.confidence),
            intervals,
        ),
        Grouping("source_length", "source length", "length of the source sentence, subword tokens", *lengths),
        Grouping("target_length", "target length", "length of the target sentence, subword tokens", *lengths),
        Grouping(
            "frequency_rank",
            "frequency rank",
            "frequency rank of the reference token",
            (0, *ranks),
            ("special symbols", *_range_labels(ranks)),
        ),
    ]


def _range_labels(bounds: Sequence[int]) -> tuple[str, ...]:
    starts = [1, *(bound + 1 for bound in bounds)]
    ranges = [f"{start:,}-{end:,}" if start < end else f"{end:,}" for start, end in zip(starts, bounds, strict=False)]
    return (*ranges, f"{starts[-1]:,}+")


def frequency_ranks(dictionary: Dictionary) -> Tensor:
    """Return the frequency rank of each symbol, [V]: 1 for the most frequent word, 0 for special symbols.

    Words are ranked by the dictionary's counts, and words with equal counts by their position in the dictionary. So a
    dictionary without counts gives meaningful ranks if it has the order of a subword model. </s> and <unk> have no
    rank, because fairseq-preprocess does not count them.
    """
    special = dictionary.nspecial
    order = torch.tensor(dictionary.count[special:]).argsort(descending=True, stable=True)
    ranks = torch.zeros(len(dictionary), dtype=torch.long)
    ranks[special + order] = torch.arange(1, len(order) + 1)
    return ranks


class BucketSums:
    """Sums of the COUNTS over all tokens, `total` [6], and over the buckets of each grouping, `sums` [buckets, 6]."""

    def __init__(self, groupings: list[Grouping], device: torch.device):
        self.groupings = groupings
        self.total = torch.zeros(len(COUNTS), dtype=torch.long, device=device)
        self.sums = {
            grouping.name: torch.zeros(len(grouping.labels), len(COUNTS), dtype=torch.long, device=device)
            for grouping in groupings
        }

    def add(self, counts: Tensor, numbers: dict[str, Tensor]) -> None:
        """Add the `counts` [tokens, 6] of some tokens; `numbers` maps each grouping's name to its numbers, [tokens]."""
        self.total += counts.sum(0)
        for grouping in self.groupings:
            number = numbers[grouping.name]
            # in the precision of the numbers, so that a float32 probability of 0.4 is not above the bound 0.4
            bounds = torch.tensor(grouping.bounds, dtype=number.dtype, device=number.device)
            self.sums[grouping.name].index_add_(0, torch.bucketize(number.contiguous(), bounds), counts)
