"""Assemble a training corpus from decoded sentences and the data they were decoded from."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nmt_kd.decoding.filters import Filters
from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.originals import InteractiveOriginals, Originals, Pair
from nmt_kd.decoding.selection import WITHOUT_REFERENCE, Choice, choices
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.errors import UserError


@dataclass
class Assembly:
    """The numbers of pairs in an assembled corpus."""

    pairs: Counter = field(default_factory=Counter)  # by part: base, kd, ...
    dropped: Counter = field(default_factory=Counter)  # by reason


@dataclass(frozen=True)
class Decoding:
    """A finished decoding, and the data that was decoded."""

    folder: ShardFolder
    originals: Originals | InteractiveOriginals

    @classmethod
    def open(cls, path: Path, data: Path) -> "Decoding":
        """Open the decoding in `path` of `data`; raises UserError if it is of other data."""
        folder = ShardFolder(path)
        settings = folder.settings()
        if settings["sentences"] is None:  # read by fairseq-interactive
            return cls(folder, InteractiveOriginals())
        source_lang, target_lang = settings["languages"].split("-")
        originals = Originals.load(data, source_lang, target_lang, settings["subset"])
        originals.check(settings, path)
        return cls(folder, originals)

    def distilled(self, choose: Choice, report: Assembly) -> Iterator[Pair]:
        """Yield each source with the hypotheses that `choose` selects; sentences without any are counted."""
        for sentence in in_order(self.folder):
            source, reference = self.originals.pair(sentence)
            if not sentence.hypotheses:
                report.dropped["not decoded"] += 1
                continue
            for hypothesis in choose(sentence.hypotheses, reference):
                yield source, hypothesis.text

    def back_translated(self) -> Iterator[Pair]:
        """Yield each best hypothesis as the source of the sentence it was decoded from."""
        for sentence in in_order(self.folder):
            target, _ = self.originals.pair(sentence)
            if sentence.hypotheses:
                yield sentence.hypotheses[0].text, target


def assemble(
    folder: Path,
    data: Path,
    parts: list[str],
    filters: Filters,
    similarity: str = "bleu",
    reverse_folder: Path | None = None,
) -> tuple[Iterator[Pair], Assembly]:
    """Return an iterator over the pairs of a corpus, and their counts, which grow during iteration.

    The corpus consists of `parts`, in this order: `base` (the original pairs), `kd`, `best-2`, `inter` (see `choices`)
    or `bt` (the original targets with the sources that a reverse teacher decoded from them into `reverse_folder`).
    Raises UserError, at once or during iteration, if a decoding is incomplete or of other data.
    """
    selected = choices(similarity)
    known = ["base", "bt", *selected]
    if unknown := [part for part in parts if part not in known]:
        raise UserError(f"unknown corpus part {unknown[0]!r}; choose from {', '.join(known)}")
    decoding, report = Decoding.open(folder, data), Assembly()
    if isinstance(decoding.originals, InteractiveOriginals) and set(parts) - set(WITHOUT_REFERENCE):
        raise UserError(
            f"{folder} was decoded from text without references, which {'+'.join(parts)!r} needs; choose from "
            f"{', '.join(WITHOUT_REFERENCE)}"
        )
    reverse = _open_reverse(reverse_folder, data, decoding) if "bt" in parts else None

    def pairs_of(part: str) -> Iterator[Pair]:
        if part == "base":
            return decoding.originals.pairs()
        if reverse and part == "bt":
            return reverse.back_translated()
        return decoding.distilled(selected[part], report)

    def kept() -> Iterator[Pair]:
        for part in parts:
            for source, target in pairs_of(part):
                reason = None if part == "base" else filters.reason(source, target)
                if reason:
                    report.dropped[reason] += 1
                else:
                    report.pairs[part] += 1
                    yield source, target

    return kept(), report


def _open_reverse(folder: Path | None, data: Path, forward: Decoding) -> Decoding:
    if folder is None:
        raise UserError("'bt' needs the decoding of a reverse teacher; name its folder with --reverse")
    settings = ShardFolder(folder).settings()
    languages = settings["languages"]
    expected = "-".join(reversed(forward.folder.settings()["languages"].split("-")))
    if languages != expected:
        raise UserError(f"{folder} was decoded from {languages}, but a reverse teacher for this data is {expected}")
    if settings["sentences"] is None:
        raise UserError(f"{folder} was decoded by fairseq-interactive; for 'bt', decode {data} with fairseq-generate")
    return Decoding.open(folder, data)
