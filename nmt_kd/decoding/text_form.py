"""The text form of a decoding: hypotheses are plain text, and each record has the plain text of its source.

The corpus that is assembled of it may have any subword model, whatever the teacher's was.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from fairseq.data import Dictionary

from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.originals import Pair
from nmt_kd.decoding.shards import Decoded, Hypothesis, ShardFolder
from nmt_kd.decoding.text_files import TextFiles
from nmt_kd.errors import UserError
from nmt_kd.options import require

FORM = {"form": "text"}  # in the manifest
BLOCK_LINES = 1000  # of references, read at a time


def is_text(settings: dict) -> bool:
    """Tell whether a manifest's settings are those of a decoding in text form."""
    return settings.get("form") == "text"


def text_checksum(text: str) -> str:
    """Return a checksum of a source text."""
    return f"{zlib.crc32(text.encode()):08x}"


def pair_name(source_lang: str, target_lang: str) -> str:
    """Return the two languages as one name; raises UserError if they cannot be told apart in it."""
    for flag, language in (("--source-lang", source_lang), ("--target-lang", target_lang)):
        require("-" not in language, flag, language, "without a hyphen; write zh_TW, not zh-TW")
    return f"{source_lang}-{target_lang}"


def text_record(number: int, source: str, hypotheses: list[Hypothesis]) -> Decoded:
    """Return the record of a source text with its translations."""
    return Decoded(number, text_checksum(source), hypotheses, {"text": source})


def text_folder(output: Path, command: str, noted: dict) -> ShardFolder:
    """Return the folder that `command` fills; `noted` is stored with the settings, but not compared."""
    return ShardFolder(output, command, "--output", noted)


@dataclass(frozen=True)
class StudentText:
    """How text becomes the student's subwords, and the references that belong to it."""

    split: Callable[[str], str]  # text into subwords, joined by spaces
    source_lang: str
    target_lang: str
    references: list[Path] = field(default_factory=list)  # files parallel to the sources


@dataclass
class TextOriginals:
    """The sources, and the references if there are any, in the student's subwords."""

    folder: ShardFolder
    student: StudentText
    references: TextFiles | None
    dictionaries: tuple[Dictionary, Dictionary]

    @classmethod
    def open(cls, folder: ShardFolder, data: Path, student: StudentText) -> "TextOriginals":
        """Open the text of `folder`; UserError if dictionaries are missing in `data`, or references do not fit."""
        pair = f"{student.source_lang}-{student.target_lang}"
        if not any(data.glob(f"*.{pair}.*")):
            raise UserError(
                f"{data} has no data in {pair}; give the student's data, or if it names the languages differently, "
                "give its names as --source-lang and --target-lang"
            )
        paths = [data / f"dict.{language}.txt" for language in (student.source_lang, student.target_lang)]
        for path in paths:
            if not path.is_file():
                raise UserError(f"{path} does not exist; give a folder that fairseq-preprocess has written as --data")
        references = TextFiles(student.references, BLOCK_LINES) if student.references else None
        sentences = folder.settings()["sentences"]
        if references is not None and len(references) != sentences:
            files = ", ".join(map(str, student.references))
            raise UserError(f"{files}: {len(references):,} lines, but {folder.distill_dir} has {sentences:,} sentences")
        source, target = (Dictionary.load(str(path)) for path in paths)
        return cls(folder, student, references, (source, target))

    def sentences(self) -> Iterator[Decoded]:
        """Yield all sentences in the order of the text, in subwords."""
        references = iter(self.references.records()) if self.references else None
        for decoded in in_order(self.folder):
            text = decoded.notes["text"]
            if text_checksum(text) != decoded.source:
                raise UserError(f"sentence {decoded.id} of {self.folder.distill_dir} is damaged; decode it again")
            reference = next(references)[0].text if references else ""
            hypotheses = [replace(item, text=self._subwords(item.text)) for item in decoded.hypotheses]
            notes = {"text": self._subwords(text), "reference": self._subwords(reference)}
            yield replace(decoded, hypotheses=hypotheses, notes=notes)

    def _subwords(self, text: str) -> str:
        # Line breaks of other kinds than \n would become lines of the corpus.
        return " ".join(self.student.split(" ".join(text.split())).split())

    def pair(self, decoded: Decoded) -> Pair:
        """Return source and reference of one of `sentences`."""
        return decoded.notes["text"], decoded.notes["reference"]

    def pairs(self) -> Iterator[Pair]:
        """Yield source and reference of every sentence."""
        return map(self.pair, self.sentences())

    def unknown(self, pair: Pair) -> Counter:
        """Return how many symbols of each side are in no dictionary; they are binarised as unknown."""
        languages = self.student.source_lang, self.student.target_lang
        counts: Counter = Counter()
        for side, dictionary, language in zip(pair, self.dictionaries, languages, strict=True):
            counts[language] = sum(symbol not in dictionary.indices for symbol in side.split())
        return counts
