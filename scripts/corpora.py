"""Extract the parallel text of a data set from its published archives.

    python scripts/corpora.py ORIGINALS OUT_DIR --languages en de --corpus SPLIT URL MEMBER --corpus ...

ORIGINALS is a folder with the archives (.tgz, .tar, .zip; named as in the URL) or with their unpacked contents. MEMBER
is a file in the archive, with {lang} for the language and {side} for src or ref; * matches any characters. Members that
end in .sgm or .xml are test sets with <seg> elements, train.tags.* are TED talks with metadata, and .gz files are
decompressed; all others have one sentence per line. Writes OUT_DIR/SPLIT.LANGUAGE, with the corpora of a split in the
given order.
"""

import argparse
import gzip
import html
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

SEGMENT = re.compile(r"<seg\s+id\s*=\s*\"?([^\">]*)\"?\s*>(.*?)</seg>", re.DOTALL | re.IGNORECASE)
METADATA = re.compile(rb"\s*</?(url|talkid|keywords|speaker|reviewer|translator|doc)\b")
TEXT_TAGS = re.compile(rb"</?(title|description)>")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)

Stream = IO[bytes] | gzip.GzipFile


class Corpus(NamedTuple):
    """A parallel text in an archive."""

    split: str
    url: str
    pattern: str

    def member(self, side: str, language: str) -> str:
        return self.pattern.replace("{side}", side).replace("{lang}", language)


class Written(NamedTuple):
    """The number of lines in a file, and its segment ids or metadata lines, which must match the other language's."""

    lines: int
    marks: list


def fail(message: str) -> NoReturn:
    raise SystemExit(f"corpora.py: error: {message}")


def copy_lines(stream: Stream, out: IO[bytes]) -> Written:
    """Copy a file with one sentence per line, without carriage returns, which some readers treat as line ends."""
    number = 0
    for number, line in enumerate(stream, 1):  # noqa: B007
        out.write(line.rstrip(b"\r\n").replace(b"\r", b" ") + b"\n")
    return Written(number, [])


def copy_talks(stream: Stream, out: IO[bytes]) -> Written:
    """Copy TED talks without the metadata lines, but with titles and descriptions."""
    metadata: list[int] = []
    number = 0
    for number, line in enumerate(stream, 1):
        if METADATA.match(line):
            metadata.append(number)
        else:
            out.write(TEXT_TAGS.sub(b"", line).replace(b"\r", b" ").strip() + b"\n")
    return Written(number, metadata)


def copy_segments(stream: Stream, out: IO[bytes]) -> Written:
    """Copy the segments of a test set in SGML or XML, with their entities decoded."""
    found = SEGMENT.findall(stream.read().decode("utf-8"))
    for _, text in found:
        out.write(re.sub(r"[ \t\r\n]+", " ", html.unescape(text)).strip().encode() + b"\n")
    return Written(len(found), [identifier for identifier, _ in found])


def copy_member(name: str, stream: Stream, part: Path) -> Written:
    """Write the text of one file, whose name determines its format."""
    if name.endswith(".gz"):
        name, stream = name.removesuffix(".gz"), gzip.GzipFile(fileobj=stream)
    copy = copy_lines
    if name.endswith((".sgm", ".xml")):
        copy = copy_segments
    elif Path(name).name.startswith("train.tags."):
        copy = copy_talks
    with part.open("wb") as out:
        return copy(stream, out)


def archive_files(archive: Path) -> Iterator[tuple[str, Stream]]:
    """Yield the name and the content of each file; read each content before asking for the next."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as members:
            for info in members.infolist():
                with members.open(info) as stream:
                    yield info.filename, stream
        return
    with (gzip.open if archive.suffix == ".tgz" else open)(archive, "rb") as content:
        with tarfile.open(fileobj=content, mode="r|") as files:
            for entry in files:
                if entry.isfile() and (file := files.extractfile(entry)) is not None:
                    yield entry.name.removeprefix("./"), file
        while content.read(1 << 20):  # verify the checksum, which follows everything that tarfile reads
            pass


def read_unpacked(originals: Path, member: str, part: Path) -> Written | None:
    """Write the text of an unpacked member, or return None if it is not in the folder."""
    found = [path for name in (member, member.removesuffix(".gz")) for path in sorted(originals.glob(name))]
    if not found:
        return None
    name = found[0].relative_to(originals).as_posix()
    try:
        with found[0].open("rb") as stream:
            return copy_member(name, stream, part)
    except (*DAMAGE, UnicodeDecodeError) as error:
        fail(f"{found[0]} is damaged ({error}); download it again")


def read_archive(archive: Path, url: str, parts: dict[str, Path]) -> dict[str, Written]:
    """Write the text of members (the keys, which may contain a *) in one pass over an archive."""
    if not archive.is_file():
        fail(f"{archive} is missing (and so is its content, {archive.parent / next(iter(parts))}); get it from {url}")
    written: dict[str, Written] = {}
    name = archive.name
    try:
        for name, stream in archive_files(archive):
            for member in parts:
                if fnmatchcase(name, member):
                    if member in written:
                        fail(f"{archive} contains more than one {member}; give the pattern of a single file")
                    written[member] = copy_member(name, stream, parts[member])
    except DAMAGE as error:
        fail(f"{archive} is damaged ({error}); delete it and download it again from {url}")
    except UnicodeDecodeError as error:
        fail(f"{name} in {archive} is not UTF-8 ({error}); download the archive again from {url}")
    for member in parts:
        if member not in written:
            fail(f"{archive} has no {member}: it is truncated or not the right archive; download it again from {url}")
    return written


def read_parts(originals: Path, url: str, parts: dict[str, Path]) -> dict[str, Written]:
    """Write the text of members from unpacked files if there are any, and from the archive otherwise."""
    unpacked = {member: read_unpacked(originals, member, part) for member, part in parts.items()}
    written = {member: result for member, result in unpacked.items() if result is not None}
    packed = {member: part for member, part in parts.items() if member not in written}
    if packed:
        written |= read_archive(originals / url.rpartition("/")[2], url, packed)
    return written


def check_parallel(url: str, source: tuple[str, Written], target: tuple[str, Written]) -> int:
    """Check that two files correspond line by line, and return their number of pairs."""
    (source_name, source_written), (target_name, target_written) = source, target
    if source_written.lines != target_written.lines:
        fail(
            f"{source_name} has {source_written.lines} lines and {target_name} has {target_written.lines}; "
            f"they must correspond line by line; download both again from {url}"
        )
    for ours, theirs in zip(source_written.marks, target_written.marks, strict=False):
        if ours != theirs:
            fail(
                f"{source_name} has segment or metadata {ours} where {target_name} has {theirs}; "
                f"download both again from {url}"
            )
    pairs = source_written.lines - (len(source_written.marks) if "train.tags." in source_name else 0)
    if len(source_written.marks) != len(target_written.marks) or not pairs:
        fail(f"{source_name} and {target_name} have no text in common; download both again from {url}")
    return pairs


def extract(originals: Path, out: Path, languages: list[str], corpora: list[Corpus]) -> dict[str, int]:
    """Write the text of every split, and return the number of pairs in each."""
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
    """Append the content of `part` to `whole`, and delete `part`."""
    with part.open("rb") as source, whole.open("ab") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    part.unlink()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--languages", nargs=2, required=True, help="source and target language")
    parser.add_argument("--corpus", nargs=3, action="append", required=True, metavar=("SPLIT", "URL", "MEMBER"))
    args = parser.parse_args(arguments)
    sizes = extract(args.originals, args.out_dir, args.languages, [Corpus(*corpus) for corpus in args.corpus])
    print(", ".join(f"{split}: {size:,} pairs" for split, size in sizes.items()))


if __name__ == "__main__":
    main()
