"""The parts of a corpus, and the decoded folders that they are made from."""

import re
from dataclasses import dataclass
from pathlib import Path

from nmt_kd.errors import UserError

KNOWN = "base, kd, best-2 (or another number), inter, mbr, qe, bt"
FIXED = ("base", "kd", "inter", "mbr", "qe", "bt")
WITH_REFERENCES = ("base", "inter")
BEST = re.compile(r"best-([2-9]|[1-9]\d+)")


def depth(part: str) -> int | None:
    """Return how many of the best hypotheses a part takes, or None if their ranks do not decide."""
    if part in ("kd", "bt"):
        return 1
    match = BEST.fullmatch(part)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Source:
    """A decoded folder and the parts of the corpus that are made from it."""

    folder: Path
    parts: tuple[str, ...]

    @property
    def is_reverse(self) -> bool:
        """Whether the folder was decoded in the reverse direction."""
        return "bt" in self.parts


def parse_sources(words: list[str], default: str) -> list[Source]:
    """Parse FOLDER or FOLDER=PARTS; a folder without parts has those of `default`, joined by "+".

    Raises UserError for an unknown part, for a part that is given twice, and for `bt` besides other parts.
    """
    sources = []
    for word in words:
        folder, equals, parts = word.rpartition("=")
        if not equals or Path(word).is_dir():  # the folder's own name may contain "="
            folder, parts = word, default
        sources.append(Source(Path(folder), tuple(parts.split("+"))))
    seen = set()
    for source in sources:
        for part in source.parts:
            if part not in FIXED and depth(part) is None:
                raise UserError(f"unknown corpus part {part!r}; choose from {KNOWN}")
            if (source.folder.resolve(), part) in seen:
                raise UserError(f"the part {part!r} of {source.folder} is given twice; leave one out")
            seen.add((source.folder.resolve(), part))
        if source.is_reverse and len(source.parts) > 1:
            raise UserError(
                f"'bt' needs a separate folder, decoded in the reverse direction, but {source.folder} has "
                f"{'+'.join(source.parts)!r}; leave out 'bt' there, and add the reverse folder as FOLDER=bt"
            )
    return sources


def check_lists(source: Source, settings: dict) -> None:
    """Raise UserError if the n-best lists of a decoding with these `settings` are too short for a part."""
    nbest = settings.get("nbest")  # imported lists differ in length
    if nbest is None:
        return
    for part in source.parts:
        if (depth(part) or 1) > nbest:
            raise UserError(
                f"{source.folder} has {nbest} hypotheses of each sentence, too few for {part!r}; decode again with a "
                "larger --nbest, or choose fewer"
            )
        if part == "mbr" and nbest == 1:
            raise UserError(
                f"{source.folder} has one hypothesis of each sentence, but 'mbr' compares several; decode again with a "
                "larger --nbest, or choose 'kd'"
            )
