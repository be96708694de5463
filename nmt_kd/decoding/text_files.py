"""Text files of any size as one sequence of records, read block by block."""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nmt_kd.errors import UserError


@dataclass(frozen=True)
class Line:
    """A line without its end, and where it is."""

    text: str
    file: Path
    number: int  # from 1

    def error(self, what: str) -> UserError:
        """Return an error about this line."""
        return UserError(f"{self.file}, line {self.number}: {what}")


Record = list[Line]
INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")  # Unicode's categories of controls, zero-width characters and separators


def is_blank(text: str) -> bool:
    """Return whether a text is empty or has only spaces, control characters and zero-width characters."""
    return all(unicodedata.category(character) in INVISIBLE for character in text)


@dataclass(frozen=True)
class _Place:
    file: int
    offset: int  # bytes
    line: int  # lines before it


class TextFiles:
    """The records of text files, in blocks; only the place where each block starts is kept in memory.

    A record is a line, or several if `joins` tells that a line belongs to the record of the line before it in its file.
    """

    def __init__(
        self,
        paths: list[Path],
        block_records: int,
        check: Callable[[Record], object] = lambda record: None,
        joins: Callable[[Line, Line], bool] | None = None,
    ):
        """Read the files once, and call `check` for every record.

        Raises UserError if a file cannot be read, is not UTF-8 or has no lines, and whatever `check` raises.
        """
        self.paths, self.joins = paths, joins
        self.sizes: list[int] = []  # records of each block
        self._starts: list[_Place] = []
        self._hashes = [hashlib.sha256() for _ in paths]
        for place, record in self._records(_Place(0, 0, 0), self._hashes):
            if not self.sizes or self.sizes[-1] == block_records:
                self._starts.append(place)
                self.sizes.append(0)
            self.sizes[-1] += 1
            check(record)
        if not self.sizes:
            raise UserError(f"{', '.join(map(str, paths))}: no lines; give files with one sentence a line")

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def checksum(self) -> str:
        """What identifies the text: the first 12 hexadecimal digits of each file's SHA-256."""
        return "+".join(digest.hexdigest()[:12] for digest in self._hashes)

    def block(self, number: int) -> list[Record]:
        """Return the records of a block; raises UserError if a file can no longer be read."""
        records = self._records(self._starts[number])
        return [record for _, record in islice(records, self.sizes[number])]

    def records(self) -> Iterator[Record]:
        """Yield all records."""
        return (record for _, record in self._records(_Place(0, 0, 0)))

    def _records(self, start: _Place, hashes: list | None = None) -> Iterator[tuple[_Place, Record]]:
        place, record = start, list[Line]()
        for line_place, line in self._lines(start, hashes):
            if record and not (self.joins and line.file == record[-1].file and self.joins(record[-1], line)):
                yield place, record
                record = []
            if not record:
                place = line_place
            record.append(line)
        if record:
            yield place, record

    def _lines(self, start: _Place, hashes: list | None) -> Iterator[tuple[_Place, Line]]:
        for number in range(start.file, len(self.paths)):
            path = self.paths[number]
            first = start if number == start.file else _Place(number, 0, 0)
            offset, count = first.offset, first.line
            try:
                with open(path, "rb") as file:
                    file.seek(offset)
                    for content in file:
                        if hashes:
                            hashes[number].update(content)
                        yield _Place(number, offset, count), Line(_decoded(content, path, count + 1), path, count + 1)
                        offset, count = offset + len(content), count + 1
            except OSError as error:
                raise UserError(
                    f"cannot read {path}: {error.strerror or error}; give files with one sentence a line, not a pipe"
                ) from None


def _decoded(content: bytes, path: Path, number: int) -> str:
    try:
        return content.decode().lstrip("\ufeff").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}, line {number}: not UTF-8; convert the file to UTF-8") from None
