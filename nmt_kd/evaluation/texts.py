"""Files of translations, one sentence a line."""

import re
from collections.abc import Sequence
from pathlib import Path

from nmt_kd.errors import UserError

GENERATED = re.compile(r"[STHDPAE]-\d+\t|Generate \w+ with |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| [A-Z]+ \| ")
GENERATED_LINE = re.compile(r"([STHD])-(\d+)\t(.*)", re.DOTALL)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8; only a line feed ends one, whatever else Unicode calls a line's end.

    Raises UserError for a file that is missing, empty, in another encoding, or not sentences but fairseq's output.
    """
    lines = []
    for number, line in enumerate(_raw_lines(path), 1):
        try:
            text = line.decode("utf-8").removeprefix("\ufeff" if number == 1 else "")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is not all UTF-8: line {number} has the byte 0x{line[error.start]:02x}; "
                "convert the file (iconv -f latin1 -t utf-8), or join it again from parts of one encoding"
            ) from None
        if GENERATED.match(text):
            raise UserError(
                f"{path} is not sentences: line {number} is fairseq's output ({text[:30]!r}); "
                f"take the translations out with: nmt-kd translations {path} > translations.{path.suffix.lstrip('.')}"
            )
        lines.append(text)
    return lines


def _raw_lines(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    if not content.strip():
        raise UserError(f"{path} is empty; it must have a line for each sentence")
    return [line.removesuffix(b"\r") for line in content.removesuffix(b"\n").split(b"\n")]


def check_same_length(files: dict[Path, Sequence[str]]) -> None:
    """UserError unless all files have as many lines as the first."""
    (first, lines), *others = files.items()
    for path, other in others:
        if len(other) != len(lines):
            raise UserError(
                f"{path} has {len(other)} lines, {first} has {len(lines)}; each must have one for every sentence"
            )


def generated_lines(path: Path, letter: str) -> list[str]:
    """What fairseq-generate printed, in the order of the data: one line for each sentence, by the line's letter.

    `S` are the sources and `T` the references, as the model sees them but for --remove-bpe; `H` the best hypotheses,
    and `D` the same as text, where fairseq was given a --tokenizer. Raises UserError where there are none, or
    sentences are missing.
    """
    texts: dict[int, str] = {}
    for line in _raw_lines(path):
        if found := GENERATED_LINE.fullmatch(line.decode("utf-8")):
            kind, number, text = found.groups()
            if kind == letter:
                texts.setdefault(int(number), text.partition("\t")[2] if letter in "HD" else text)  # behind a score
    if not texts:
        raise UserError(f"{path} has none of fairseq-generate's lines that begin with {letter}-")
    missing = sorted(set(range(max(texts) + 1)) - texts.keys())
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of {max(texts) + 1} sentences (the first is number {missing[0]}); "
            "run fairseq-generate again, with --user-dir nmt_kd and without --skip-invalid-size-inputs-valid-test"
        )
    return [texts[number] for number in range(len(texts))]
