"""The formats in which translations from elsewhere are read; each says in one line what is wrong with a line."""

import json
import math
from abc import ABC, abstractmethod
from pathlib import Path

from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.decoding.text_files import Line, Record, TextFiles, is_blank
from nmt_kd.errors import UserError

Entry = tuple[str, list[Hypothesis]]  # a source and its translations
NO_SCORE = 0.0  # of translations that have none


class Format(ABC):
    """Files of translations, which are checked as a whole when they are opened."""

    translations: TextFiles

    def __init__(self, files: list[Path], block_records: int):
        """Read and check the files; raises UserError with the file and line of the first error."""
        self.translations = TextFiles(files, block_records, self.entry, self._joins)

    @property
    def checksum(self) -> str:
        """What identifies the files."""
        return self.translations.checksum

    def block(self, number: int) -> list[Entry]:
        """Return the entries of a block."""
        return [_best_first(self.entry(record)) for record in self.translations.block(number)]

    @staticmethod
    def _joins(before: Line, line: Line) -> bool:
        return False

    @abstractmethod
    def entry(self, record: Record) -> Entry:
        """Return the source and the translations of a record; raises UserError if it is not in this format."""


class Plain(Format):
    """One translation a line, parallel to files of sources."""

    def __init__(self, files: list[Path], block_records: int, sources: list[Path]):
        """Read and check the files; raises UserError if there are more lines on one side than on the other."""
        super().__init__(files, block_records)
        self.sources = TextFiles(sources, block_records, self._check_source)
        translations, of_sources = len(self.translations), len(self.sources)
        if translations != of_sources:
            raise UserError(
                f"{', '.join(map(str, files))}: {translations:,} lines, but {', '.join(map(str, sources))}: "
                f"{of_sources:,} lines; give files with one translation for each source"
            )

    @property
    def checksum(self) -> str:
        """What identifies the files of both sides."""
        return f"{super().checksum}/{self.sources.checksum}"

    def block(self, number: int) -> list[Entry]:
        """Return the entries of a block."""
        sources = [line.text.strip() for (line,) in self.sources.block(number)]
        return [(source, found) for source, (_, found) in zip(sources, super().block(number), strict=True)]

    def entry(self, record: Record) -> Entry:
        """Return the translation; its source is in another file."""
        (line,) = record
        return "", [Hypothesis(NO_SCORE, _text(line, line.text, "translation"))]

    @staticmethod
    def _check_source(record: Record) -> None:
        _text(record[0], record[0].text, "source")


class Tsv(Format):
    """Rows of source, translation and, optionally, score; neighbouring rows of one source form an n-best list."""

    @staticmethod
    def _joins(before: Line, line: Line) -> bool:
        return before.text.partition("\t")[0].strip() == line.text.partition("\t")[0].strip()

    def entry(self, record: Record) -> Entry:
        """Return the source and the translations of its rows."""
        columns = len(record[0].text.split("\t"))
        source, hypotheses = "", []
        for line in record:
            fields = line.text.split("\t")
            if len(fields) not in (2, 3):
                raise line.error(f"{len(fields)} columns; a row is SOURCE, TAB, TRANSLATION and optionally TAB, SCORE")
            if len(fields) != columns:
                raise line.error("some translations of this source have a score and some have none; give all or none")
            source = _text(line, fields[0], "source")
            score = _score(line, fields[2]) if columns == 3 else NO_SCORE
            hypotheses.append(Hypothesis(score, _text(line, fields[1], "translation")))
        return source, hypotheses


class JsonLines(Format):
    """One JSON object a line: "source", "translations" and, optionally, "scores"."""

    def entry(self, record: Record) -> Entry:
        """Return the source and the translations of an object."""
        (line,) = record
        try:
            content = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            raise line.error(f"not JSON ({error}); a line is one JSON object") from None
        if not isinstance(content, dict) or not isinstance(content.get("source"), str):
            raise line.error('no text under "source"; a line is {"source": "...", "translations": ["...", ...]}')
        texts = content.get("translations")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise line.error('no list of texts under "translations"; give at least one')
        scores = content.get("scores", [NO_SCORE] * len(texts))
        if not isinstance(scores, list) or len(scores) != len(texts):
            raise line.error(f'"scores" is not a list of {len(texts)} numbers, one for each translation')
        if unknown := set(content) - {"source", "translations", "scores"}:
            raise line.error(f'unknown key "{min(unknown)}"; give only "source", "translations" and "scores"')
        hypotheses = [
            Hypothesis(_score(line, score), _text(line, text, "translation"))
            for score, text in zip(scores, texts, strict=True)
        ]
        return _text(line, content["source"], "source"), hypotheses


def _text(line: Line, text: str, what: str) -> str:
    if is_blank(text):
        raise line.error(f"empty {what}; remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise line.error(f"the {what} has half of a surrogate pair, such as \\ud800; remove it") from None
    return text.strip()


def _score(line: Line, value) -> float:
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise line.error(f"score {value!r} is not a finite number; higher scores are better")
    return score


def _best_first(entry: Entry) -> Entry:
    source, hypotheses = entry
    return source, sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)


FORMATS: dict[str, type[Format]] = {"plain": Plain, "tsv": Tsv, "jsonl": JsonLines}


def format_of(files: list[Path], chosen: str | None) -> str:
    """Return the name of the format: the chosen one, or that of the files' names; UserError if they differ."""
    names = {suffix if (suffix := path.suffix.lower().removeprefix(".")) in FORMATS else "plain" for path in files}
    if chosen is None and len(names) > 1:
        raise UserError(f"the files are of several formats, {' and '.join(sorted(names))}; import them one by one")
    return chosen or names.pop()
