"""Find where the subwords of a teacher and a student start at the same place in a sentence."""

from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from nmt_kd.caching.spelling import WORD, Spelled

# The teacher's next subword spells the text from where the student's starts, or with the word's boundary that the
# student's last subword spelled already, or without the boundary that the teacher's last one spelled already.
EXACT, BEHIND, AHEAD = 0, -1, 1


@dataclass(frozen=True)
class Start:
    """A student's position at which the teacher has a prediction."""

    student: int  # the position in the student's sentence
    teacher: int  # the position in the teacher's sentence
    lead: int  # EXACT, BEHIND or AHEAD
    starts_word: bool  # for the student
    length: int  # how many of the teacher's subwords it takes to spell the student's; 0 if their texts differ there


def common_starts(student: Spelled, teacher: Spelled) -> list[Start]:
    """Return the positions of the student's sentence at which the teacher's has a boundary, too.

    Subword models may normalise characters, so the texts can differ; positions where they differ have no match.
    """
    place = _places(student.text, teacher.text)
    text = teacher.text
    first: dict[int, int] = {}  # the first subword at each offset; bytes spell nothing
    for index, boundary in enumerate(teacher.boundaries[:-1]):
        first.setdefault(boundary, index)
    tells_more = student.shows_ends and not teacher.shows_ends
    found = []
    for index, (start, end) in enumerate(pairwise(student.boundaries)):
        offset = place[start]
        if offset is None or end == start:  # a byte
            continue
        at_word = offset > 0 and text[offset - 1] == WORD
        if offset in first:
            number, lead = first[offset], EXACT
        elif at_word and offset - 1 in first:
            number, lead = first[offset - 1], BEHIND
        elif text[offset] == WORD and offset + 1 in first:
            number, lead = first[offset + 1], AHEAD
        else:
            continue
        length, last = 0, place[end]
        if last is not None:
            length = 1
            if tells_more and last < len(text) and text[last - 1] != WORD:
                last += 1  # only the teacher's next subword says that the word goes on
            while teacher.boundaries[number + length] < last:
                length += 1
        found.append(Start(index, number, lead, at_word, length))
    return found


def _places(source: str, target: str) -> list[int | None]:
    """Return where each offset of one text is in the other, [characters + 1]."""
    if source == target:
        return list(range(len(source) + 1))
    places: list[int | None] = [None] * (len(source) + 1)
    for ours, theirs, size in SequenceMatcher(None, source, target, autojunk=False).get_matching_blocks():
        if size:
            places[ours : ours + size + 1] = range(theirs, theirs + size + 1)
    return places
