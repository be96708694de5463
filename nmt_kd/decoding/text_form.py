"""The text form of a decoding: hypotheses are plain text, and each record has the plain text of its source.

A corpus can be assembled from it with any subword model, not only with the teacher's.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.originals import Pair
from nmt_kd.decoding.shards import Decoded, Hypothesis, ShardFolder
from nmt_kd.decoding.text_files import TextFiles
from nmt_kd.errors import UserError

FORM = {"form": "text"}  # in the manifest


def is_text(settings: dict) -> bool:
    """Tell whether a manifest's settings are those of a decoding in text form."""
    return settings.get("form") == "text"


def text_checksum(text: str) -> str:
    """Return a checksum of a source text."""
    return f"{zlib.crc32(text.encode()):08x}"


def text_record(number: int, source: str, hypotheses: list[Hypothesis]) -> Decoded:
    """Return the record of a source text with its translations."""
    return Decoded(number, text_checksum(source), hypotheses, {"text": source})


def text_folder(output: Path, command: str, noted: dict) -> ShardFolder:
    """Return the folder that `command` fills; `noted` is stored with the settings, but not compared."""
    return ShardFolder(output, command, "--output", noted)


class TextForm:
    """Plain text."""

    def __init__(self, split: Callable[[str], str]):
        """`split` splits text into the student's subwords, joined by spaces."""
        self.split = split
        self.settings: dict = {}

    def subwords(self, text: str) -> str:
        """Split a text."""
        # Line breaks of other kinds than \n would become lines of the corpus.
        return " ".join(self.split(" ".join(text.split())).split())

    def hypothesis(self, text: str) -> tuple[str, int]:
        """Split a hypothesis; `nmt-kd decode` has left out unknown symbols."""
        return self.subwords(text), 0

    def plain(self, text: str) -> str:
        """Return the text as it is."""
        return text


@dataclass
class TextOriginals:
    """The sources, and the references if there are any, as plain text."""

    folder: ShardFolder
    form: TextForm
    references: TextFiles | None
    block_sentences: int
    _block: tuple[int, Sequence[str]] = (-1, ())  # the references read last

    @classmethod
    def open(cls, folder: ShardFolder, split: Callable[[str], str], references: list[Path]) -> "TextOriginals":
        """Open the text of `folder`; raises UserError if the numbers of references and sentences differ."""
        settings = folder.settings()
        sentences, block_sentences = settings["sentences"], settings["block_sentences"]
        text = TextFiles(references, block_sentences) if references else None
        if text is not None and len(text) != sentences:
            files = ", ".join(map(str, references))
            raise UserError(
                f"{files}: {len(text):,} lines, but {folder.distill_dir} has {sentences:,} sentences; give "
                "--references with one line for each"
            )
        return cls(folder, TextForm(split), text, block_sentences)

    @property
    def references_checksum(self) -> str:
        """What identifies the references."""
        return self.references.checksum if self.references else ""

    def pair(self, decoded: Decoded) -> Pair:
        """Return source and reference of a sentence; raises UserError if the source is damaged."""
        text = decoded.notes["text"]
        if text_checksum(text) != decoded.source:
            raise UserError(f"sentence {decoded.id} of {self.folder.distill_dir} is damaged; decode it again")
        return text, self._reference(decoded.id)

    def pairs(self) -> Iterator[Pair]:
        """Yield source and reference of every sentence, in subwords."""
        for decoded in in_order(self.folder):
            source, reference = self.pair(decoded)
            yield self.form.subwords(source), self.form.subwords(reference)

    def _reference(self, number: int) -> str:
        if self.references is None:
            return ""
        block, row = divmod(number, self.block_sentences)
        if self._block[0] != block:
            self._block = block, [record[0].text for record in self.references.block(block)]
        return self._block[1][row]
