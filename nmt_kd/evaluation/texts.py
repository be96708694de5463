"""Read files of sentences, one per line, and the translations in fairseq-generate's output."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nmt_kd.errors import UserError

GENERATED = re.compile(r"[STHDPAE]-\d+\t|Generate \w+ with |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| [A-Z]+ \| ")
GENERATED_LINE = re.compile(r"([STHD])-(\d+)\t(.*)", re.DOTALL)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file, split at line feeds only and not at Unicode's other line separators.

    Raises UserError if the file is missing, empty, in another encoding, or raw fairseq output rather than sentences.
    """
    lines = []
    for number, line in enumerate(_raw_lines(path), 1):
        text = _decoded(path, number, line).removeprefix("\ufeff" if number == 1 else "")
        if GENERATED.match(text):
            raise UserError(
                f"{path} is not a file of sentences: line {number} is fairseq output ({text[:30]!r}); "
                f"extract the translations with: nmt-kd translations {path} > {path.stem}.hypotheses"
            )
        lines.append(text)
    return lines


def _raw_lines(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give an existing file") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give a file") from None
    if not content.strip():
        raise UserError(f"{path} is empty; it must have one line for each sentence")
    return [line.removesuffix(b"\r") for line in content.removesuffix(b"\n").split(b"\n")]


def _decoded(path: Path, number: int, line: bytes) -> str:
    """Decode a line; `number` is its number in the file."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not valid UTF-8: line {number} contains the byte 0x{line[error.start]:02x}; "
            "convert the file (iconv -f latin1 -t utf-8), or if its parts differ in encoding, convert them first"
        ) from None


def check_same_length(files: Mapping[Path, Sequence[str]]) -> None:
    """Raise UserError unless all files have the same number of lines."""
    (first, lines), *others = files.items()
    for path, other in others:
        if len(other) != len(lines):
            raise UserError(
                f"{path} has {len(other)} lines, but {first} has {len(lines)}; each must have one line per sentence"
            )


def generated_lines(path: Path, letter: str) -> list[str]:
    """Return the lines of one kind from fairseq-generate's output, one for each sentence, in the order of the data.

    `letter` is the kind: `S` for the sources and `T` for the references, as the model sees them apart from
    --remove-bpe; `H` for the best hypotheses, and `D` for these detokenised, if fairseq was given a --tokenizer. Raises
    UserError if there are no such lines or if sentences are missing.
    """
    texts: dict[int, str] = {}
    for line_number, line in enumerate(_raw_lines(path), 1):
        if found := GENERATED_LINE.fullmatch(_decoded(path, line_number, line)):
            kind, number, text = found.groups()
            if kind == letter:
                texts.setdefault(int(number), text.partition("\t")[2] if letter in "HD" else text)  # after the score
    if not texts:
        raise UserError(f"{path} has no lines that start with {letter}-; give the output of fairseq-generate")
    missing = sorted(set(range(max(texts) + 1)) - texts.keys())
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of {max(texts) + 1} sentences (the first missing one is {missing[0]}); "
            "rerun fairseq-generate with --user-dir nmt_kd and without --skip-invalid-size-inputs-valid-test"
        )
    return [texts[number] for number in range(len(texts))]
