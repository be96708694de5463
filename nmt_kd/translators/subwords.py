"""The subword models of a translator's two sides."""

from functools import cached_property
from pathlib import Path

from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.subword_model import UNKNOWN, SubwordModel


class Subwords:
    """Splits texts of both sides into subwords, and joins the subwords of translations."""

    def __init__(self, source: Path, target: Path | None = None):
        """`target` is the target side's model, if different; raises UserError if a file cannot be read."""
        self.source, self.target = SubwordModel.read(source), SubwordModel.read(target or source)
        self._split = self.source.splitter()
        self.settings = {"source_subwords": file_hash(source), "target_subwords": file_hash(target or source)}
        self.unknown = 0  # symbols left out of translations

    @cached_property
    def _split_target(self):
        return self.target.splitter()

    def of_source(self, text: str) -> list[str]:
        """Return the subwords of a source text."""
        return self._split(text).split()

    def of_target(self, text: str) -> list[str]:
        """Return the subwords of a target text."""
        return self._split_target(text).split()

    def length(self, source: str) -> int:
        """Return the number of subwords of a source, including its end."""
        return len(self.of_source(source)) + 1

    def text(self, symbols: list[str]) -> str:
        """Return a translation as text; unknown symbols are left out and counted."""
        self.unknown += symbols.count(UNKNOWN)
        return self.target.text(" ".join(symbol for symbol in symbols if symbol != UNKNOWN))
