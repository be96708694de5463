"""Assemble a training corpus from decoded sentences and the data they were decoded from."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nmt_kd.decoding.filters import Filters
from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.originals import InteractiveOriginals, Originals, Pair
from nmt_kd.decoding.selection import WITHOUT_REFERENCE, Choice, choices
from nmt_kd.decoding.shards import Decoded, ShardFolder
from nmt_kd.decoding.text_form import StudentText, TextOriginals, is_text
from nmt_kd.errors import UserError


@dataclass
class Assembly:
    """The numbers of pairs in an assembled corpus."""

    pairs: Counter = field(default_factory=Counter)  # by part: base, kd, ...
    dropped: Counter = field(default_factory=Counter)  # by reason
    unknown: Counter = field(default_factory=Counter)  # symbols in no dictionary, by language; of text only


@dataclass(frozen=True)
class Decoding:
    """A finished decoding, and the data that was decoded."""

    folder: ShardFolder
    originals: Originals | InteractiveOriginals | TextOriginals

    @classmethod
    def open(cls, path: Path, data: Path, student: StudentText | None = None) -> "Decoding":
        """Open the decoding in `path` of `data`; raises UserError if it is of other data.

        For a decoding in text form, `data` is the student's, and `student` tells how text becomes its subwords.
        """
        folder = ShardFolder(path)
        settings = folder.settings()
        if is_text(settings) and student is None:
            raise UserError(f"{path} holds plain text; give the student's subword model as --subword-model")
        if student is not None:
            if not is_text(settings):
                raise UserError(f"{path} holds subwords, not text; leave out --subword-model and --references")
            return cls(folder, TextOriginals.open(folder, data, student))
        if settings["sentences"] is None:  # read by fairseq-interactive
            return cls(folder, InteractiveOriginals())
        source_lang, target_lang = settings["languages"].split("-")
        originals = Originals.load(data, source_lang, target_lang, settings["subset"])
        originals.check(settings, path)
        return cls(folder, originals)

    def sentences(self) -> Iterator[Decoded]:
        """Yield all sentences in the order of the data."""
        return self.originals.sentences() if isinstance(self.originals, TextOriginals) else in_order(self.folder)

    @property
    def has_references(self) -> bool:
        """Whether the sources have references."""
        if isinstance(self.originals, TextOriginals):
            return self.originals.references is not None
        return isinstance(self.originals, Originals)

    def distilled(self, choose: Choice, report: Assembly) -> Iterator[Pair]:
        """Yield each source with the hypotheses that `choose` selects; sentences without any are counted."""
        for sentence in self.sentences():
            source, reference = self.originals.pair(sentence)
            if not sentence.hypotheses:
                report.dropped["not decoded"] += 1
                continue
            for hypothesis in choose(sentence.hypotheses, reference):
                yield source, hypothesis.text

    def back_translated(self) -> Iterator[Pair]:
        """Yield each best hypothesis as the source of the sentence it was decoded from."""
        for sentence in self.sentences():
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
    student: StudentText | None = None,
) -> tuple[Iterator[Pair], Assembly]:
    """Return an iterator over the pairs of a corpus, and their counts, which grow during iteration.

    The corpus consists of `parts`, in this order: `base` (the original pairs), `kd`, `best-2`, `inter` (see `choices`)
    or `bt` (the original targets with the sources that a reverse teacher decoded from them into `reverse_folder`).
    `student` is needed for, and only for, a decoding in text form (see `Decoding.open`).

    Raises UserError, at once or during iteration, if a decoding is incomplete or of other data.
    """
    selected = choices(similarity)
    known = ["base", "bt", *selected]
    if unknown := [part for part in parts if part not in known]:
        raise UserError(f"unknown corpus part {unknown[0]!r}; choose from {', '.join(known)}")
    decoding, report = Decoding.open(folder, data, student), Assembly()
    if student is not None and "bt" in parts:
        raise UserError(f"'bt' needs data that fairseq-generate decoded, but {folder} holds text; leave out 'bt'")
    if not decoding.has_references and set(parts) - set(WITHOUT_REFERENCE):
        raise UserError(
            f"{folder} was decoded from text without references, which {'+'.join(parts)!r} needs; choose from "
            f"{', '.join(WITHOUT_REFERENCE)}" + ("; or give --references" if student is not None else "")
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
                    if isinstance(decoding.originals, TextOriginals):
                        report.unknown += decoding.originals.unknown((source, target))
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
    if is_text(settings):
        raise UserError(f"{folder} holds text; for 'bt', decode {data} with fairseq-generate")
    if settings["sentences"] is None:
        raise UserError(f"{folder} was decoded by fairseq-interactive; for 'bt', decode {data} with fairseq-generate")
    return Decoding.open(folder, data)
