"""Open decoded folders and check them against the student's data."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fairseq.data import Dictionary

from nmt_kd.data import pairs_of_data
from nmt_kd.decoding.order import block_sizes, check_finished
from nmt_kd.decoding.originals import InteractiveOriginals, Originals, load_dictionary
from nmt_kd.decoding.parts import CorpusFolder, check_lists
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.decoding.text_form import TextOriginals, is_text
from nmt_kd.errors import UserError
from nmt_kd.storage.kinds import DECODING, kind_of_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Student:
    """The student's data, and how text becomes its subwords."""

    data: Path
    source_lang: str
    target_lang: str
    names_given: bool = False  # whether the user named the languages, which teachers may name differently
    split: Callable[[str], str] | None = None  # text into subwords joined by spaces; needed for text
    references: list[Path] = field(default_factory=list)  # files parallel to the sources of text

    @property
    def pair(self) -> str:
        """Both languages as one name."""
        return f"{self.source_lang}-{self.target_lang}"

    @cached_property
    def dictionaries(self) -> tuple[Dictionary, Dictionary]:
        """The dictionaries of both sides; UserError if one is missing."""
        return load_dictionary(self.data, self.source_lang), load_dictionary(self.data, self.target_lang)


@dataclass(frozen=True)
class Decoding:
    """A finished decoding with the data that was decoded."""

    folder: CorpusFolder
    shards: ShardFolder
    originals: Originals | InteractiveOriginals | TextOriginals


def languages_of(folders: list[CorpusFolder]) -> tuple[str, str]:
    """Return the languages of the first folder, in the direction of the corpus."""
    first = next((folder for folder in folders if not folder.is_reverse), folders[0])
    source_lang, target_lang = _settings_of(first.path)["languages"].split("-")
    return (target_lang, source_lang) if first.is_reverse else (source_lang, target_lang)


def have_text(folders: list[CorpusFolder]) -> bool:
    """Tell whether any of the folders has plain text, which must be split into the student's subwords."""
    return any(is_text(_settings_of(folder.path)) for folder in folders)


def open_decodings(folders: list[CorpusFolder], student: Student) -> list[Decoding]:
    """Open the folders; raises UserError if one is unfinished, is of other data, or lacks what one of its parts needs.

    The folders' settings are checked before any data is read.
    """
    settings = {folder.path: _settings_of(folder.path) for folder in folders}
    for folder in folders:
        _check_settings(folder, settings[folder.path], student)
    texts = [folder for folder in folders if is_text(settings[folder.path])]
    if student.references and not any(folder.needing_references for folder in texts):
        raise UserError("--references are only for 'base' and 'inter' of folders with text; leave them out")
    pairs = pairs_of_data(student.source_lang, student.target_lang) if student.names_given else (student.pair,)
    if texts and not any(any(student.data.glob(f"*.{pair}.*")) for pair in pairs):
        raise UserError(
            f"{student.data} has no data in {student.pair}; give the student's data or, if it names the languages "
            "differently, give those names as --source-lang and --target-lang"
        )
    decodings = [_opened(folder, settings[folder.path], student) for folder in folders]
    for decoding in decodings:
        check_finished(decoding.shards)
        if settings[decoding.folder.path]["sentences"] is None:
            logger.warning(
                f"{decoding.folder.path} has {sum(block_sizes(decoding.shards)):,} sentences; the length of "
                "fairseq-interactive's input is unknown, so if it was interrupted, rerun it first"
            )
    return decodings


def _settings_of(folder: Path) -> dict:
    """Return the settings of a decoding; UserError if the folder is of another kind."""
    kind = kind_of_folder(folder)
    if kind not in (DECODING, None):
        raise UserError(
            f"{folder} is {kind}, not {DECODING}; give a folder that nmt-kd decode, nmt-kd import or fairseq-generate "
            "--task seq_kd wrote"
        )
    return ShardFolder(folder).settings()


def _check_settings(folder: CorpusFolder, settings: dict, student: Student) -> None:
    check_lists(folder, settings)
    languages = settings["languages"]
    here, opposite = student.pair, f"{student.target_lang}-{student.source_lang}"
    expected, refused = (opposite, here) if folder.is_reverse else (here, opposite)
    other_names = is_text(settings) and student.names_given and languages != refused
    if languages != expected and not other_names:
        what = "'bt' needs" if folder.is_reverse else "the corpus is"
        hint = (
            "; if these are the same languages, give their names in --data as --source-lang and --target-lang"
            if is_text(settings) and languages != refused
            else "; give a folder decoded in that direction" + ("" if folder.is_reverse else ", or add it as FOLDER=bt")
        )
        raise UserError(f"{folder.path} was decoded from {languages}, but {what} {expected}{hint}")
    if is_text(settings) and student.split is None:
        raise UserError(f"{folder.path} contains plain text; give the student's subword model as --subword-model")
    needed = folder.needing_references
    has_references = student.references if is_text(settings) else settings["sentences"] is not None
    if needed and not has_references:
        raise UserError(
            f"{folder.path} was decoded from text without references, which {needed[0].name!r} needs; choose other "
            "parts" + (", or give --references" if is_text(settings) else "")
        )


def _opened(folder: CorpusFolder, settings: dict, student: Student) -> Decoding:
    shards = ShardFolder(folder.path)
    if is_text(settings):
        assert student.split is not None
        references = student.references if folder.needing_references else []
        return Decoding(folder, shards, TextOriginals.open(shards, student.split, references))
    if settings["sentences"] is None:  # read by fairseq-interactive
        return Decoding(folder, shards, InteractiveOriginals.open(settings, folder.path, student.data))
    source_lang, target_lang = settings["languages"].split("-")
    originals = Originals.load(student.data, source_lang, target_lang, settings["subset"])
    originals.check(settings, folder.path)
    return Decoding(folder, shards, originals)
