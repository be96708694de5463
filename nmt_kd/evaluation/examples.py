"""Find the sentences to look at first: a system's worst translations, and its largest changes from the baseline."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from sacrebleu.metrics import CHRF

EAST_ASIAN = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # written without spaces: every character counts as a word
PIECE = re.compile(rf"\s+|[{EAST_ASIAN}]|[^\s{EAST_ASIAN}]+")
EDGES = re.compile(r"^[\W_]+|[\W_]+$")
EXAMPLES = 5  # of each kind
EMPTY = "(empty)"  # what is shown for a translation without words


@dataclass(frozen=True)
class Translation:
    """A system's translation of one sentence, with its sentence-level chrF."""

    system: str
    text: str
    chrf: float


@dataclass(frozen=True)
class Example:
    """A test sentence with its translations, in the order in which they are shown."""

    number: int  # of the sentence in the test set, from 1
    source: str
    reference: str
    translations: list[Translation]


@dataclass(frozen=True)
class Comparison:
    """Examples of one system's translations by heading, such as "Worst"."""

    system: str
    languages: tuple[str, str]
    groups: dict[str, list[Example]]


@dataclass(frozen=True)
class TranslatedText:
    """A test set and the systems' translations of it."""

    languages: tuple[str, str]
    sources: Sequence[str]
    references: Sequence[str]
    hypotheses: Mapping[str, Sequence[str]]  # by system


def compare(text: TranslatedText, shown: Sequence[str], baseline: str | None) -> list[Comparison]:
    """Return examples of every system except the baseline and those in `shown`, which appear beside the others.

    If there is no other system, return examples of the baseline and those in `shown`. Systems in `shown` that have no
    translations are left out.
    """
    beside = [name for name in dict.fromkeys([*shown, *([baseline] if baseline else [])]) if name in text.hypotheses]
    systems = [name for name in text.hypotheses if name not in beside] or list(text.hypotheses)
    metric = CHRF()
    chrf = {
        name: [
            metric.sentence_score(hypothesis, [reference]).score
            for hypothesis, reference in zip(text.hypotheses[name], text.references, strict=True)
        ]
        for name in dict.fromkeys([*beside, *systems])
    }
    comparisons = []
    for system in systems:
        names = list(dict.fromkeys([*beside, system]))
        against = chrf.get(baseline) if baseline and baseline != system else None
        comparisons.append(_examples_of(system, names, baseline, text, chrf, against))
    return comparisons


def _examples_of(
    system: str,
    names: list[str],
    baseline: str | None,
    text: TranslatedText,
    chrf: dict[str, list[float]],
    against: list[float] | None,
) -> Comparison:
    def examples(keep: Callable[[int], bool], order: Callable[[int], float]) -> list[Example]:
        chosen: dict[tuple[str, str], int] = {}  # the same sentence may occur several times in a test set
        for index in sorted(filter(keep, range(len(text.references))), key=order):
            chosen.setdefault((text.sources[index], text.references[index]), index)
            if len(chosen) == EXAMPLES:
                break
        return [
            Example(
                index + 1,
                text.sources[index],
                text.references[index],
                [Translation(name, text.hypotheses[name][index], chrf[name][index]) for name in names],
            )
            for index in chosen.values()
        ]

    ours = chrf[system]
    groups = {"Worst": examples(lambda index: True, lambda index: ours[index])}
    if against is not None:
        gains = [one - other for one, other in zip(ours, against, strict=True)]
        groups[f"Largest gains over {baseline}"] = examples(lambda index: gains[index] > 0, lambda index: -gains[index])
        groups[f"Largest drops from {baseline}"] = examples(lambda index: gains[index] < 0, lambda index: gains[index])
    return Comparison(system, text.languages, {title: found for title, found in groups.items() if found})


def parts_by_presence(text: str, reference: str) -> list[tuple[str, bool]]:
    """Split a translation into parts, each with whether its words are in the reference, ignoring case and punctuation.

    If a word occurs more often than in the reference, its last occurrences count as absent.
    """
    left = Counter(_bare(piece) for piece in PIECE.findall(reference))
    pieces = PIECE.findall(text)
    present = []
    for piece in pieces:
        word = _bare(piece)
        present.append(not word or left[word] > 0)
        left[word] -= 1
    for index in range(1, len(pieces) - 1):
        if pieces[index].isspace():
            present[index] = present[index - 1] or present[index + 1]
    grouped = groupby(zip(pieces, present, strict=True), key=itemgetter(1))
    return [("".join(piece for piece, _ in group), known) for known, group in grouped]


def _bare(piece: str) -> str:
    return EDGES.sub("", piece).casefold()
