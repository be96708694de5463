"""The predictions of a teacher with other subwords and another vocabulary, for the subwords of a student."""

import logging
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import torch
from fairseq.data import Dictionary
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.alignment import common_starts
from nmt_kd.caching.respelling import Respelled, Respeller, StudentWriting, TopWords, Wanted, respell
from nmt_kd.caching.spelling import UNREADABLE, Spelled, sentence_texts, vocabulary_texts
from nmt_kd.caching.teacher import CachedPredictions
from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.data import batches_by_tokens
from nmt_kd.engine.distribution import TopDistribution
from nmt_kd.engine.predictions import PredictionSource
from nmt_kd.errors import UserError
from nmt_kd.losses.divergence import LOG_OF_NOTHING
from nmt_kd.subword_model import SubwordModel, join_subwords, marks_of

logger = logging.getLogger(__name__)

MOST_UNKNOWN = 0.1  # of the teacher's subwords in a batch; more means a wrong subword model
SENTENCES_CHECKED = 100


class ForeignTeacher(ABC):
    """A teacher that splits text itself."""

    fingerprint: str
    texts: list[str | None]  # what each symbol of its target vocabulary spells, see `vocabulary_texts`
    marks: str  # how its subwords mark words
    unknown: int  # the index of its unknown symbol

    @abstractmethod
    def max_positions(self) -> tuple[int, int]:
        """Return the lengths of the longest source and target that it accepts, in its own tokens."""

    @abstractmethod
    def read_source(self, text: str) -> list[int]:
        """Return the tokens of a source text."""

    @abstractmethod
    def read_target(self, text: str) -> Spelled:
        """Return the subwords of a target text, its end included."""

    @abstractmethod
    def top(self, sources: list[list[int]], targets: list[Spelled], words: int, like: Tensor) -> TopWords:
        """Return the `words` most probable words at all subwords of the targets of a batch, sentence by sentence."""


class StudentVocabulary:
    """A student's dictionaries, and the model that splits its target text."""

    def __init__(self, task: FairseqTask, subwords: str, flag: str):
        """`subwords` is the path of the target side's subword model, given as `flag`; UserError if it is missing."""
        if not subwords:
            raise UserError(f"the subword model of the student's target text is needed; give it as {flag}")
        dictionary = self.target = task.target_dictionary
        self.source, self.data = task.source_dictionary, task.cfg.data
        self.model = SubwordModel.read(Path(subwords))
        self.marks, self.source_marks = marks_of(dictionary.symbols), marks_of(self.source.symbols)
        if self.model.kind != self.marks:
            raise UserError(
                f"{subwords} is a model of {self.model.kind}, but the subwords of {self.data} are marked as those of "
                f"{self.marks}; give the model that split the target text of this data as {flag}"
            )
        texts = fairseq_texts(dictionary, self.marks)
        split = self.model.splitter()
        self.writing = StudentWriting(
            texts, self.marks, lambda word: sentence_texts(split(word).split(), self.marks)[:-1]
        )
        self.readable = [UNREADABLE if n == dictionary.unk() else s for n, s in enumerate(dictionary.symbols)]
        special = [dictionary.bos(), dictionary.pad()]
        self.fillers = [*special, *(n for n in reversed(range(len(dictionary))) if n not in special)]

    def spelled(self, tokens: list[int]) -> Spelled:
        """Return the subwords of a target, which ends in the end-of-sentence symbol."""
        return Spelled(tokens, sentence_texts([self.readable[token] for token in tokens[:-1]], self.marks))

    def source_text(self, tokens: list[int]) -> str:
        """Return the text of a source."""
        ends = {self.source.eos(), self.source.pad(), self.source.bos()}
        unknown = self.source.unk()
        symbols = (
            UNREADABLE if token == unknown else self.source.symbols[token] for token in tokens if token not in ends
        )
        return join_subwords(" ".join(symbols), self.source_marks)

    def check(self, targets: list[list[int]]) -> None:
        """Raise UserError if the subword model does not split the text as these targets are split."""
        self.model.check(
            [" ".join(self.target.symbols[token] for token in target[:-1]) for target in targets], self.data
        )


def fairseq_texts(dictionary: Dictionary, marks: str) -> list[str | None]:
    """Return what each symbol of a dictionary spells."""
    others = {dictionary.bos(), dictionary.pad()}
    return vocabulary_texts(dictionary.symbols, marks, dictionary.eos(), dictionary.unk(), others)


@dataclass
class Mapped:
    """How much of a teacher's predictions has been mapped."""

    positions: int = 0
    known: int = 0
    mass: float = 0.0  # summed over the known positions
    too_long: int = 0  # sentences


@dataclass
class RespellingSource(PredictionSource):
    """A teacher with another vocabulary, as a source of predictions."""

    teacher: ForeignTeacher
    student: StudentVocabulary
    words: int  # of the teacher's, at each position
    mapped: Mapped = field(default_factory=Mapped)
    is_checked: bool = False

    def __post_init__(self) -> None:
        self.fingerprint = f"{self.teacher.fingerprint} {file_hash(self.student.model.path)} {self.words}"
        self.respeller = Respeller(self.teacher.texts, self.teacher.marks, self.student.writing)

    def max_positions(self) -> tuple[int, int]:
        """Return no limits; a sentence that is too long for the teacher only lacks predictions."""
        return sys.maxsize, sys.maxsize

    def on_subset(self, subset: str) -> "RespellingSource":
        return RespellingSource(self.teacher, self.student, self.words)

    @property
    def most_words(self) -> int:
        return min(self.words, len(self.student.target))

    def summary(self) -> str:
        """Return how much has been mapped."""
        if not self.mapped.positions:
            return ""
        known, positions = self.mapped.known, self.mapped.positions
        long = f"; {self.mapped.too_long:,} sentences are too long for the teacher" if self.mapped.too_long else ""
        return (
            f"{known:,} of {positions:,} positions ({known / positions:.1%}) have a prediction, where "
            f"{self.mapped.mass / max(known, 1):.1%} of the teacher's mass is mapped to the student's subwords{long}"
        )

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> CachedPredictions:
        """Return the predictions for fairseq's `sample`; `token_index` is of all its target tokens."""
        padding = self.student.target.pad()
        sources = sample["net_input"]["src_tokens"].tolist()
        targets = [[token for token in row if token != padding] for row in sample["target"].tolist()]
        assert len(token_index) == sum(map(len, targets))
        return CachedPredictions(lambda: self._predict(sources, targets, like))

    def _predict(self, sources: list[list[int]], targets: list[list[int]], like: Tensor) -> TopDistribution:
        own = [self.student.spelled(target) for target in targets]
        texts = [self.student.source_text(source) for source in sources]
        theirs = [self.teacher.read_target(each.plain) for each in own]
        read = [self.teacher.read_source(text) for text in texts]
        if not self.is_checked:
            self._check(targets, theirs)
        sizes = numpy.array([[len(source), len(target.tokens)] for source, target in zip(read, theirs, strict=True)])
        fits = (sizes <= self.teacher.max_positions()).all(axis=1)
        longer = sizes.max(axis=1)
        order = numpy.argsort(-longer, kind="stable")
        room = len(own) * max(max(map(len, sources)), max(map(len, targets)))  # as many tokens as the student's batch
        starts = numpy.cumsum([0, *map(len, targets)]).tolist()
        wanted, places, tops, rows = [], [], [], 0
        for batch in batches_by_tokens(longer, order[fits[order]], room, None):
            numbers = batch.tolist()
            tops.append(self.teacher.top([read[n] for n in numbers], [theirs[n] for n in numbers], self.words, like))
            for number in numbers:
                common = common_starts(own[number], theirs[number])
                wanted += [Wanted.of(start, rows, own[number], theirs[number]) for start in common]
                places += [starts[number] + start.student for start in common]
                rows += len(theirs[number].tokens)
        self.mapped.too_long += int((~fits).sum())
        self.mapped.positions += starts[-1]
        self.mapped.known += len(wanted)
        found = respell(self.respeller, TopWords.joined(tops, self.words), wanted, self.student.fillers)
        self.mapped.mass += float((1 - numpy.exp(found.log_rest)).sum())
        return self._distribution(found, places, starts[-1], like)

    def _distribution(self, found: Respelled, places: list[int], length: int, like: Tensor) -> TopDistribution:
        """Return the predictions at all target tokens of a batch, given those that have been `found` at `places`."""
        width = found.words.shape[1]
        words = numpy.tile(numpy.arange(width), (length, 1))
        log_q = numpy.full((length, width), LOG_OF_NOTHING, numpy.float32)
        log_rest, known = numpy.zeros(length, numpy.float32), numpy.zeros(length, bool)
        words[places], log_q[places] = found.words, numpy.maximum(found.log_q, LOG_OF_NOTHING)
        log_rest[places], known[places] = found.log_rest, True
        top, logs, rest, are_known = (
            torch.from_numpy(part).to(like.device) for part in (words, log_q, log_rest, known)
        )
        return TopDistribution(top, logs, rest, len(self.student.target), are_known)

    def _check(self, targets: list[list[int]], theirs: list[Spelled]) -> None:
        """Raise UserError if a subword model does not fit its dictionary, by the first batch."""
        self.is_checked = True
        self.student.check(targets[:SENTENCES_CHECKED])
        tokens = [token for each in theirs for token in each.tokens]
        unknown = tokens.count(self.teacher.unknown)
        if unknown > MOST_UNKNOWN * len(tokens):
            raise UserError(
                f"{unknown / len(tokens):.0%} of the subwords of the target text are not in the teacher's dictionary; "
                "give the subword model and the dictionaries of the same teacher"
            )
