"""The parts of a corpus, and the decoded folders that they are made from."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nmt_kd.decoding.scores import scores_of
from nmt_kd.decoding.shards import Decoded
from nmt_kd.errors import UserError

Closeness = Callable[[str], float]  # of a hypothesis to the reference of its sentence; higher is closer


@dataclass(frozen=True)
class Part:
    """A part of a corpus: which pairs are made from each decoded sentence.

    `choose` returns the ranks of the hypotheses that form pairs; among equally good ones, the better-ranked. A part
    without `choose` has the original pairs.
    """

    name: str
    choose: Callable[[Decoded, Closeness], list[int]] | None
    fewest: int = 1  # hypotheses of a sentence that it needs
    is_scored: bool = False  # whether it chooses by scores of its name in the notes of decoded sentences
    needs_references: bool = False
    is_reverse: bool = False  # whether its hypotheses are sources, from a folder decoded in the reverse direction

    @property
    def has_translated_targets(self) -> bool:
        """Whether the targets of its pairs are hypotheses."""
        return self.choose is not None and not self.is_reverse


def first(count: int) -> Callable[[Decoded, Closeness], list[int]]:
    """Choose the `count` best hypotheses of each sentence."""
    return lambda decoded, closeness: list(range(len(decoded.hypotheses)))[:count]


def closest(decoded: Decoded, closeness: Closeness) -> list[int]:
    """Choose the hypothesis that is closest to the reference."""
    closenesses = [closeness(hypothesis.text) for hypothesis in decoded.hypotheses]
    return [closenesses.index(max(closenesses))] if closenesses else []


def highest(name: str) -> Callable[[Decoded, Closeness], list[int]]:
    """Choose the hypothesis with the highest score of this name."""

    def choose(decoded: Decoded, closeness: Closeness) -> list[int]:
        scores = scores_of(decoded, name)
        return [max(sorted(scores), key=scores.__getitem__)] if scores else []

    return choose


PARTS = {
    part.name: part
    for part in (
        Part("base", None, needs_references=True),
        Part("kd", first(1)),
        Part("inter", closest, needs_references=True),
        Part("mbr", highest("mbr"), fewest=2, is_scored=True),
        Part("qe", highest("qe"), is_scored=True),
        Part("bt", first(1), is_reverse=True),
    )
}
BEST = re.compile(r"best-([2-9]|[1-9]\d+)")
KNOWN = "base, kd, best-2 (or another number), inter, mbr, qe, bt"


def parse_part(name: str) -> Part:
    """Return the part with this name; raises UserError if the name is unknown."""
    if match := BEST.fullmatch(name):
        return Part(name, first(int(match[1])), fewest=int(match[1]))
    if name not in PARTS:
        raise UserError(f"unknown corpus part {name!r}; choose from {KNOWN}")
    return PARTS[name]


@dataclass(frozen=True)
class CorpusFolder:
    """A decoded folder and the parts of the corpus that are made from it."""

    path: Path
    parts: tuple[Part, ...]

    @property
    def is_reverse(self) -> bool:
        """Whether the folder was decoded in the reverse direction."""
        return any(part.is_reverse for part in self.parts)

    @property
    def has_originals(self) -> bool:
        """Whether one of the parts has the original pairs."""
        return any(part.choose is None for part in self.parts)

    @property
    def needing_references(self) -> list[Part]:
        """The parts that need references."""
        return [part for part in self.parts if part.needs_references]


def parse_folders(words: list[str], default: str) -> list[CorpusFolder]:
    """Parse FOLDER or FOLDER=PARTS; a folder without parts has those of `default`, joined by "+".

    Raises UserError for an unknown part, for a part that is given twice, and for `bt` besides other parts.
    """
    folders = []
    for word in words:
        path, equals, parts = word.rpartition("=")
        if not equals or Path(word).is_dir():  # the folder's own name may contain "="
            path, parts = word, default
        folders.append(CorpusFolder(Path(path), tuple(parse_part(name) for name in parts.split("+"))))
    seen = set()
    for folder in folders:
        for part in folder.parts:
            if (folder.path.resolve(), part.name) in seen:
                raise UserError(f"the part {part.name!r} of {folder.path} is given twice; leave one out")
            seen.add((folder.path.resolve(), part.name))
        if folder.is_reverse and len(folder.parts) > 1:
            raise UserError(
                f"'bt' needs a separate folder, decoded in the reverse direction, but {folder.path} has "
                f"{'+'.join(part.name for part in folder.parts)!r}; leave out 'bt' there, and add the reverse folder "
                "as FOLDER=bt"
            )
    return folders


def check_lists(folder: CorpusFolder, settings: dict) -> None:
    """Raise UserError if the n-best lists of a decoding with these `settings` are too short for a part."""
    nbest = settings.get("nbest")
    if nbest is None:  # of imported lists, which differ in length
        return
    for part in folder.parts:
        if nbest < part.fewest:
            raise UserError(
                f"{folder.path} was decoded with --nbest {nbest}, but {part.name!r} needs {part.fewest} hypotheses "
                "of each sentence; decode again with a larger --nbest, or choose another part, such as 'kd'"
            )
