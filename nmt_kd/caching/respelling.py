"""Turn predictions over a teacher's vocabulary into predictions over a student's with other subwords.

Each word of the teacher passes its probability to the first subword that the student would use to write it. Along the
reference this is exact: while the teacher's subwords so far spell only the beginning of a student's subword, the
teacher's predictions at the next position are used too, and the probabilities are multiplied.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy
import torch

from nmt_kd.caching.alignment import AHEAD, BEHIND, Start
from nmt_kd.caching.spelling import WORD, Spelled, marks_word_starts
from nmt_kd.engine.distribution import TopDistribution

REST, IMPOSSIBLE, UNSEEN = -1, -2, -3  # in place of a student's subword
MOST_CACHED = 2_000_000  # words after a beginning

Place = tuple[int, bool]  # lead and starts_word of `Start`


@dataclass(frozen=True)
class TopWords:
    """A teacher's most probable words at the positions of some sentences, one after another."""

    words: numpy.ndarray  # int64 [positions, m]
    log_q: numpy.ndarray  # [positions, m], in nats
    log_rest: numpy.ndarray  # [positions], in nats

    @classmethod
    def of(cls, parts: Sequence[TopDistribution]) -> "TopWords":
        """Return the predictions at the positions of all `parts`."""
        joined = (torch.cat([getattr(part, each.name) for part in parts]) for each in fields(cls))
        return cls(*(tensor.cpu().numpy() for tensor in joined))

    def __getitem__(self, rows) -> "TopWords":
        return TopWords(self.words[rows], self.log_q[rows], self.log_rest[rows])

    @classmethod
    def joined(cls, parts: Sequence["TopWords"], words: int) -> "TopWords":
        """Return the predictions at the positions of all `parts`, if any, each of so many `words`."""
        if not parts:
            return cls(numpy.empty((0, words), numpy.int64), numpy.empty((0, words)), numpy.empty(0))
        return cls(*(numpy.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


@dataclass(frozen=True)
class Respelled:
    """Predictions in the student's vocabulary, most probable first."""

    words: numpy.ndarray  # int64 [positions, k]
    log_q: numpy.ndarray  # [positions, k], in nats; -inf for words that only fill a row
    log_rest: numpy.ndarray  # [positions], in nats


class StudentWriting:
    """Splits texts into a student's subwords."""

    def __init__(self, texts: Sequence[str | None], marks: str, split: Callable[[str], list[str]]):
        """`texts` is what each symbol spells; `split` returns what the subwords of a word spell, END not included."""
        self.index = {text: number for number, text in reversed(list(enumerate(texts))) if text}
        self.by_starts, self.split = marks_word_starts(marks), split
        self.longest = max(map(len, self.index), default=0)

    def first(self, text: str, starts_word: bool) -> int:
        """Return the first subword with which `text` is written, or REST if there is none.

        With subwords that mark where words end, `text` starts after the boundary if `starts_word`.
        """
        if (found := self.index.get(text)) is not None:
            return found
        if self.by_starts:
            starts_word = text.startswith(WORD)
            word = text[:1] + text[1:].partition(WORD)[0]
            whole = True
        else:
            end = text.find(WORD) + 1
            whole, word = end > 0, text[:end] or text
        if (found := self.index.get(word)) is not None:
            return found
        if starts_word and whole and word != WORD:
            written = self.split(word.strip(WORD))
            if written and word.startswith(written[0]):
                return self.index.get(written[0], REST)
            return REST
        for length in range(min(len(word), self.longest), 0, -1):
            if (found := self.index.get(word[:length])) is not None:
                return found
        return REST


class Respeller:
    """Maps the words of a teacher to subwords of a student; remembers what it has found."""

    def __init__(self, teacher_texts: Sequence[str | None], teacher_marks: str, student: StudentWriting):
        self.texts, self.teacher_by_starts, self.student = teacher_texts, marks_word_starts(teacher_marks), student
        self._tables: dict[Place, numpy.ndarray] = {}
        self._continued: dict[tuple[Place, str, int], int] = {}

    def first(self, place: Place, beginning: str, word: int) -> int:
        """Return the student's first subword for `beginning` and the teacher's `word` after it, REST or IMPOSSIBLE."""
        lead, starts_word = place
        text = self.texts[word]
        if text is None:
            return REST
        text = beginning + text
        if lead == AHEAD:
            text = WORD + text
        elif lead == BEHIND:
            if not text.startswith(WORD):
                return IMPOSSIBLE
            text = text[1:]
        if not self.student.by_starts:
            if text.startswith(WORD):
                return IMPOSSIBLE  # the student's last subword said that the word goes on
            if self.teacher_by_starts and WORD not in text:
                text += WORD  # the teacher does not say whether the word ends; take it to be whole
        return self.student.first(text, starts_word)

    def firsts(self, place: Place, words: numpy.ndarray) -> numpy.ndarray:
        """Return `first` for each of `words`, without a beginning."""
        table = self._tables.get(place)
        if table is None:
            table = self._tables[place] = numpy.full(len(self.texts), UNSEEN, numpy.int32)
        found = table[words]
        if (found == UNSEEN).any():
            for word in numpy.unique(words[found == UNSEEN]).tolist():
                table[word] = self.first(place, "", word)
            found = table[words]
        return found

    def continued(self, place: Place, beginning: str, words: list[int]) -> list[int]:
        """Return `first` for each of `words` after a beginning."""
        if len(self._continued) > MOST_CACHED:
            self._continued.clear()
        found = []
        for word in words:
            key = place, beginning, word
            if key not in self._continued:
                self._continued[key] = self.first(place, beginning, word)
            found.append(self._continued[key])
        return found


@dataclass(frozen=True)
class Wanted:
    """A position of the student that takes the teacher's prediction at `row` of its top words."""

    start: Start
    row: int
    gold: int  # the student's subword in the reference
    teacher_gold: list[int]  # the teacher's that spell it, at `row` and after it
    teacher_texts: list[str]

    @classmethod
    def of(cls, start: Start, rows: int, student: Spelled, teacher: Spelled) -> "Wanted":
        """Return what is wanted at `start`, if the predictions for the teacher's sentence begin at number `rows`."""
        path = slice(start.teacher, start.teacher + start.length)
        gold = student.tokens[start.student]
        return cls(start, rows + start.teacher, gold, teacher.tokens[path], teacher.texts[path])


def respell(respeller: Respeller, top: TopWords, wanted: Sequence[Wanted], fillers: Sequence[int]) -> Respelled:
    """Return the student's predictions at the positions that are `wanted`.

    `fillers` are words that fill rows with fewer words than others, the least probable first, enough for any row.
    """
    positions = numpy.arange(len(wanted))
    rows = numpy.array([each.row for each in wanted], numpy.int64)
    words, log_q = top.words[rows], top.log_q[rows].astype(numpy.float64)
    mapped = numpy.empty(words.shape, numpy.int64)
    places = numpy.array([(each.start.lead + 1) * 2 + each.start.starts_word for each in wanted], numpy.int64)
    for place in numpy.unique(places).tolist():
        here = places == place
        mapped[here] = respeller.firsts((place // 2 - 1, bool(place % 2)), words[here])
    gold = numpy.array([each.teacher_gold[0] if each.teacher_gold else -1 for each in wanted])
    golds = numpy.array([each.gold for each in wanted], numpy.int64)
    is_gold = words == gold[:, None]
    mapped = numpy.where(is_gold, golds[:, None], mapped)
    entries = _Entries()
    paths = numpy.array([len(each.teacher_gold) > 1 for each in wanted], bool) & is_gold.any(1)
    kept = ~(is_gold & paths[:, None])  # the others are continued
    entries.add(numpy.broadcast_to(positions[:, None], words.shape)[kept], mapped[kept], log_q[kept])
    entries.add(positions, numpy.full(len(rows), REST), top.log_rest[rows])
    for position in numpy.flatnonzero(paths).tolist():
        log_path = float(log_q[position][is_gold[position]][0])
        _follow(respeller, top, wanted[position], position, log_path, entries)
    return _packed(*entries.joined(), len(wanted), min(top.words.shape[1], len(fillers)), fillers)


def _follow(
    respeller: Respeller, top: TopWords, wanted: Wanted, position: int, log_path: float, entries: "_Entries"
) -> None:
    """Add what the teacher predicts after its first subword of the reference, and after more while they fall short."""
    place = wanted.start.lead, wanted.start.starts_word
    beginning = ""
    last = len(wanted.teacher_gold) - 1
    for number in range(1, last + 1):
        beginning += wanted.teacher_texts[number - 1]
        row = wanted.row + number
        words, logs = top.words[row].tolist(), log_path + top.log_q[row].astype(numpy.float64)
        mapped = respeller.continued(place, beginning, words)
        log_next = None
        if wanted.teacher_gold[number] in words:
            column = words.index(wanted.teacher_gold[number])
            if number == last:
                mapped[column] = wanted.gold
            else:
                log_next = float(logs[column])
                del mapped[column]
                logs = numpy.delete(logs, column)
        entries.add(numpy.full(len(mapped) + 1, position), [*mapped, REST], [*logs, log_path + top.log_rest[row]])
        if log_next is None:
            return
        log_path = log_next


class _Entries:
    """Log-probabilities of words at positions, in any order; a word may occur several times."""

    def __init__(self) -> None:
        self.parts: list[tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]] = []

    def add(self, positions, words, logs) -> None:
        parts = numpy.asarray(positions, numpy.int64), numpy.asarray(words, numpy.int64)
        self.parts.append((*parts, numpy.asarray(logs, numpy.float64)))

    def joined(self) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        positions, words, logs = (numpy.concatenate(each) for each in zip(*self.parts, strict=True))
        return positions, words, logs


def _packed(positions, words, logs, length: int, least: int, fillers: Sequence[int]) -> Respelled:
    """Add up equal words, sort them, and return rows of equal length, of `least` words or more."""
    possible = words != IMPOSSIBLE
    positions, words, logs = positions[possible], words[possible], logs[possible]
    order = numpy.lexsort((words, positions))
    positions, words, logs = positions[order], words[order], logs[order]
    new = numpy.flatnonzero(numpy.diff(positions, prepend=-1) | numpy.diff(words, prepend=IMPOSSIBLE))
    if len(new):
        positions, words, logs = positions[new], words[new], numpy.logaddexp.reduceat(logs, new)
    if not possible.all():  # what the student knows rules some words out; the others share their mass
        starts = numpy.flatnonzero(numpy.diff(positions, prepend=-1))
        logs = logs - numpy.logaddexp.reduceat(logs, starts)[positions]  # each position has an entry for the rest
    is_rest = words == REST
    log_rest = logs[is_rest]
    positions, words, logs = positions[~is_rest], words[~is_rest], logs[~is_rest]
    order = numpy.lexsort((words, -logs, positions))
    positions, words, logs = positions[order], words[order], logs[order]
    counts = numpy.bincount(positions, minlength=length)
    width = max(least, int(counts.max(initial=0)))
    columns = numpy.arange(len(positions)) - numpy.repeat(numpy.cumsum(counts) - counts, counts)
    packed, log_q = numpy.full((length, width), UNSEEN, numpy.int64), numpy.full((length, width), -numpy.inf)
    packed[positions, columns], log_q[positions, columns] = words, logs
    for row in numpy.flatnonzero(counts < width).tolist():
        taken = set(packed[row, : counts[row]].tolist())
        free = (word for word in fillers if word not in taken)
        for column in range(counts[row], width):
            packed[row, column] = next(free)
    return Respelled(packed, log_q, log_rest)
