"""The data that was decoded: its sources and references."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from fairseq.data import Dictionary, FairseqDataset
from fairseq.tasks.translation import TranslationTask

from nmt_kd.checkpoints.task import task_of_data
from nmt_kd.data import dictionary_checksum, load_subset, opening_subset, source_checksum, subwords
from nmt_kd.decoding.shards import Decoded
from nmt_kd.errors import UserError
from nmt_kd.subword_model import join_subwords, marks_of, without_unknown

Pair = tuple[str, str]  # source and target


class Form(Protocol):
    """How the texts of a decoding are stored."""

    settings: dict  # that determine the plain text

    def subwords(self, text: str) -> str:
        """Return a stored text in the student's subwords, joined by spaces."""

    def hypothesis(self, text: str) -> tuple[str, int]:
        """Return a stored hypothesis in the student's subwords, and how many unknown symbols it had."""

    def plain(self, text: str) -> str:
        """Return a stored text as plain text."""


class SubwordForm:
    """Texts in the student's subwords."""

    def __init__(self, marks: str):
        """`marks` are those of `marks_of`."""
        self.marks = marks
        self.settings = {"marks": marks}

    def subwords(self, text: str) -> str:
        """Return the text as it is."""
        return text

    def hypothesis(self, text: str) -> tuple[str, int]:
        """Return a hypothesis without its unknown symbols, which no student should learn to write, and their number."""
        return without_unknown(text)

    def plain(self, text: str) -> str:
        """Return a text without its unknown symbols, joined."""
        return join_subwords(without_unknown(text)[0], self.marks)


@dataclass
class Originals:
    """A binarised subset that was decoded, as subwords."""

    task: TranslationTask
    dataset: FairseqDataset
    references_checksum = ""  # the references are part of the data, whose sources `pair` compares

    @cached_property
    def form(self) -> Form:
        """How the stored texts are written."""
        return SubwordForm(marks_of([*self.task.source_dictionary.symbols, *self.task.target_dictionary.symbols]))

    @classmethod
    def load(cls, data: Path, source_lang: str, target_lang: str, subset: str) -> "Originals":
        """Open a subset of a binarised data folder; raises UserError if it does not exist."""
        with opening_subset(str(data), subset, source_lang, target_lang):
            task = task_of_data(str(data), source_lang, target_lang, subset)
            load_subset(task, subset)
        return cls(task, task.dataset(subset))

    def check(self, settings: dict, folder: Path) -> None:
        """Raise UserError unless the `settings` of a decoding in `folder` fit this data."""
        expected = {
            "sentences": len(self.dataset),
            "source_dictionary": dictionary_checksum(self.task.source_dictionary),
            "target_dictionary": dictionary_checksum(self.task.target_dictionary),
        }
        for name, value in expected.items():
            _check_setting(name, settings[name], value, folder)

    def pair(self, decoded: Decoded) -> Pair:
        """Return source and reference of a decoded sentence; raises UserError if the source has changed since."""
        if source_checksum(self.dataset[decoded.id]["source"]) != decoded.source:
            raise UserError(
                f"sentence {decoded.id} of the data differs from the one that was decoded: the data has changed; "
                "decode it again"
            )
        return self.texts(decoded.id)

    def pairs(self) -> Iterator[Pair]:
        """Yield source and reference of every sentence, in subwords."""
        return map(self.texts, range(len(self.dataset)))

    def texts(self, number: int) -> Pair:
        """Return source and reference of a sentence."""
        item = self.dataset[number]
        return (
            subwords(self.task.source_dictionary, item["source"]),
            subwords(self.task.target_dictionary, item["target"]),
        )


@dataclass
class InteractiveOriginals:
    """The text that fairseq-interactive read, which is stored with the decoded sentences."""

    form: Form
    references_checksum = ""

    @classmethod
    def open(cls, settings: dict, folder: Path, data: Path) -> "InteractiveOriginals":
        """Return the text of a decoding in `folder`; UserError if the dictionaries in `data` are others."""
        languages = settings["languages"].split("-")
        symbols: list[str] = []
        for side, language in zip(("source_dictionary", "target_dictionary"), languages, strict=True):
            dictionary = load_dictionary(data, language)
            _check_setting(side, settings[side], dictionary_checksum(dictionary), folder)
            symbols += dictionary.symbols
        return cls(SubwordForm(marks_of(symbols)))

    def pair(self, decoded: Decoded) -> Pair:
        """Return the source, and an empty reference."""
        return decoded.notes["text"], ""

    def pairs(self) -> Iterator[Pair]:
        """Yield no pairs, since there are no references."""
        return iter(())


def load_dictionary(data: Path, language: str) -> Dictionary:
    """Return the dictionary of a language; UserError if there is none."""
    path = data / f"dict.{language}.txt"
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a folder that fairseq-preprocess has written as --data")
    return Dictionary.load(str(path))


def _check_setting(name: str, decoded, given, folder: Path) -> None:
    if decoded != given:
        raise UserError(
            f"{folder} was decoded with {name} {decoded}, but --data has {given}; give the data folder that was decoded"
        )
