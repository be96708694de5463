"""Take a data set's parallel text out of the archives in which it is published.

    python scripts/corpora.py ORIGINALS OUT_DIR --languages en de --corpus SPLIT URL MEMBER --corpus ...

ORIGINALS is the folder with the archives (.tgz, .tar, .zip; named as at the end of the URL), or with what they contain.
MEMBER is a file in the archive, with {lang} for the language and {side} for src or ref; * stands for any characters.
Members that end in .sgm or .xml are test sets with <seg>, train.tags.* are TED talks with metadata, .gz is unpacked;
all else is a sentence a line. Writes OUT_DIR/SPLIT.LANGUAGE, with the corpora of a split in the order given.
"""

import argparse
import gzip
import html
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

SEGMENT = re.compile(r"<seg\s+id\s*=\s*\"?([^\">]*)\"?\s*>(.*?)</seg>", re.DOTALL | re.IGNORECASE)
METADATA = re.compile(rb"\s*</?(url|talkid|keywords|speaker|reviewer|translator|doc)\b")
TEXT_TAGS = re.compile(rb"</?(title|description)>")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


class Corpus(NamedTuple):
    """Parallel text in one archive."""

    split: str
    url: str
    pattern: str

    def member(self, side: str, language: str) -> str:
        return self.pattern.replace("{side}", side).replace("{lang}", language)


class Written(NamedTuple):
    """What came of one file: its number of lines, and what must be the same in the other language's file."""

    lines: int
    marks: list


def fail(message: str) -> NoReturn:
    raise SystemExit(f"corpora.py: error: {message}")


def copy_lines(stream: BinaryIO, out: BinaryIO) -> Written:
    """A sentence a line. Carriage returns go: to some readers they end a line, which would shift all that follow."""
    number = 0
    for number, line in enumerate(stream, 1):  # noqa: B007
        out.write(line.rstrip(b"\r\n").replace(b"\r", b" ") + b"\n")
    return Written(number, [])


def copy_talks(stream: BinaryIO, out: BinaryIO) -> Written:
    """TED talks: lines of metadata are left out, titles and descriptions are text."""
    metadata, number = [], 0
    for number, line in enumerate(stream, 1):
        if METADATA.match(line):
            metadata.append(number)
        else:
            out.write(TEXT_TAGS.sub(b"", line).replace(b"\r", b" ").strip() + b"\n")
    return Written(number, metadata)


def copy_segments(stream: BinaryIO, out: BinaryIO) -> Written:
    """A test set as SGML or XML: the text of each segment, its entities decoded."""
    found = SEGMENT.findall(stream.read().decode("utf-8"))
    for _, text in found:
        out.write(re.sub(r"[ \t\r\n]+", " ", html.unescape(text)).strip().encode() + b"\n")
    return Written(len(found), [identifier for identifier, _ in found])


def copy_member(name: str, stream: BinaryIO, part: Path) -> Written:
    """Write the text of one file, of whichever format its name says."""
    if name.endswith(".gz"):
        name, stream = name.removesuffix(".gz"), gzip.GzipFile(fileobj=stream)
    copy = copy_lines
    if name.endswith((".sgm", ".xml")):
        copy = copy_segments
    elif Path(name).name.startswith("train.tags."):
        copy = copy_talks
    with part.open("wb") as out:
        return copy(stream, out)


def archive_files(archive: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Name and content of each file; each content is to be read before the next is asked for."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as files:
            for info in files.infolist():
                with files.open(info) as stream:
                    yield info.filename, stream
        return
    with (gzip.open if archive.suffix == ".tgz" else open)(archive, "rb") as content:
        with tarfile.open(fileobj=content, mode="r|") as files:
            for info in files:
                if info.isfile():
                    yield info.name.removeprefix("./"), files.extractfile(info)
        while content.read(1 << 20):  # the checksum is at the very end, behind what tar reads
            pass


def read_unpacked(originals: Path, member: str, part: Path) -> Written | None:
    """Take a member that lies in the folder outside its archive; None if it does not."""
    found = [path for name in (member, member.removesuffix(".gz")) for path in sorted(originals.glob(name))]
    if not found:
        return None
    name = found[0].relative_to(originals).as_posix()
    try:
        with found[0].open("rb") as stream:
            return copy_member(name, stream, part)
    except (*DAMAGE, UnicodeDecodeError) as error:
        fail(f"{found[0]} is damaged ({error}); get it again")


def read_archive(archive: Path, url: str, parts: dict[str, Path]) -> dict[str, Written]:
    """Take members (the keys, which may have a *) out of an archive, in one pass over it."""
    if not archive.is_file():
        fail(f"{archive} is missing (as is {archive.parent / next(iter(parts))}); get it from {url}")
    written: dict[str, Written] = {}
    name = archive.name
    try:
        for name, stream in archive_files(archive):
            for member in parts:
                if fnmatchcase(name, member):
                    if member in written:
                        fail(f"{archive} has more than one {member}")
                    written[member] = copy_member(name, stream, parts[member])
    except DAMAGE as error:
        fail(f"{archive} is damaged ({error}); delete it and get it again from {url}")
    except UnicodeDecodeError as error:
        fail(f"{name} in {archive} is not UTF-8 ({error}); get the archive again from {url}")
    for member in parts:
        if member not in written:
            fail(f"{archive} has no {member}; it is cut short or not the right archive: get it again from {url}")
    return written


def read_parts(originals: Path, url: str, parts: dict[str, Path]) -> dict[str, Written]:
    """The same from the unpacked files as far as there are any."""
    unpacked = {member: read_unpacked(originals, member, part) for member, part in parts.items()}
    written = {member: result for member, result in unpacked.items() if result is not None}
    packed = {member: part for member, part in parts.items() if member not in written}
    if packed:
        written |= read_archive(originals / url.rpartition("/")[2], url, packed)
    return written


def check_parallel(url: str, source: tuple[str, Written], target: tuple[str, Written]) -> int:
    """The number of pairs in two files that belong together line by line."""
    (source_name, source_written), (target_name, target_written) = source, target
    if source_written.lines != target_written.lines:
        fail(
            f"{source_name} has {source_written.lines} lines and {target_name} has {target_written.lines}; "
            f"they must belong together line by line: get them again from {url}"
        )
    for ours, theirs in zip(source_written.marks, target_written.marks, strict=False):
        if ours != theirs:
            fail(f"{source_name} has segment or metadata {ours} where {target_name} has {theirs}; get both from {url}")
    pairs = source_written.lines - (len(source_written.marks) if "train.tags." in source_name else 0)
    if len(source_written.marks) != len(target_written.marks) or not pairs:
        fail(f"{source_name} and {target_name} have no text in common; get both again from {url}")
    return pairs


def extract(originals: Path, out: Path, languages: list[str], corpora: list[Corpus]) -> dict[str, int]:
    """Write the text of every split; returns their numbers of pairs."""
    sides = list(zip(("src", "ref"), languages, strict=True))
    parts: dict[Corpus, dict[str, Path]] = {}
    for number, corpus in enumerate(corpora):
        parts[corpus] = {corpus.member(*side): out / f"part{number}.{side[1]}" for side in sides}
    written: dict[str, Written] = {}
    for url in dict.fromkeys(corpus.url for corpus in corpora):
        members = {member: part for corpus in corpora if corpus.url == url for member, part in parts[corpus].items()}
        written |= read_parts(originals, url, members)
    sizes: dict[str, int] = {}
    for corpus in corpora:
        source, target = ((member, written[member]) for member in parts[corpus])
        sizes[corpus.split] = sizes.get(corpus.split, 0) + check_parallel(corpus.url, source, target)
        for part in parts[corpus].values():
            append(part, out / f"{corpus.split}{part.suffix}")
    return sizes


def append(part: Path, whole: Path) -> None:
    """Move the content of a file to the end of another."""
    with part.open("rb") as source, whole.open("ab") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    part.unlink()


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--languages", nargs=2, required=True, help="source and target")
    parser.add_argument("--corpus", nargs=3, action="append", required=True, metavar=("SPLIT", "URL", "MEMBER"))
    args = parser.parse_args(arguments)
    sizes = extract(args.originals, args.out_dir, args.languages, [Corpus(*corpus) for corpus in args.corpus])
    print(", ".join(f"{split}: {size:,} pairs" for split, size in sizes.items()))


if __name__ == "__main__":
    main()
