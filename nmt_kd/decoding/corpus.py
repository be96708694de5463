"""Make the pairs of a training corpus from decoded folders and the data that was decoded."""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from nmt_kd.decoding.filters import Filters
from nmt_kd.decoding.opened import Decoding
from nmt_kd.decoding.order import block_sizes, in_order
from nmt_kd.decoding.parts import Part
from nmt_kd.decoding.scores import ScoreBlock, Scored, ScoreFolder, read_with_scores, scores_of
from nmt_kd.decoding.shards import Decoded
from nmt_kd.decoding.similarity import SIMILARITIES
from nmt_kd.decoding.utilities import Scorer, scores_of_texts
from nmt_kd.errors import UserError
from nmt_kd.progress import Progress
from nmt_kd.storage.blocks import fill

logger = logging.getLogger(__name__)


class Candidate(NamedTuple):
    """A pair of subword texts that has passed the filters of single pairs."""

    label: str  # of its part, for the report
    source: str
    target: str
    score: float = math.nan  # by the reverse model; NaN if --drop-worst does not apply to the pair


@dataclass
class Report:
    """The numbers of pairs in a corpus, which are counted while it is made."""

    pairs: Counter = field(default_factory=Counter)  # by label
    dropped: Counter = field(default_factory=Counter)  # by reason
    unknown: Counter = field(default_factory=Counter)  # symbols binarised as unknown, by language
    unknown_left_out: int = 0  # unknown symbols of hypotheses


@dataclass(frozen=True)
class Corpus:
    """The decodings of a corpus, and how pairs are made from them.

    `scorers` has the names of the parts that are scored, and `reverse` if the worst pairs are dropped.
    """

    decodings: list[Decoding]
    filters: Filters = field(default_factory=Filters)
    similarity: str = "bleu"
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    report: Report = field(default_factory=Report)

    def compute_scores(self) -> None:
        """Compute the scores that are not stored yet; raises UserError if they cannot be stored."""
        for decoding in self.decodings:
            for part in decoding.folder.parts:
                self._scores(decoding, part, compute=True)

    def candidates(self) -> Iterator[Candidate]:
        """Yield the pairs of all parts, folder by folder; raises UserError if the data has changed.

        Call `compute_scores` first.
        """
        repeated = self._repeated_base()
        for number, decoding in enumerate(self.decodings):
            for part in decoding.folder.parts:
                label = part.name if len(self.decodings) == 1 else f"{decoding.folder.path}={part.name}"
                if part.choose:
                    yield from self._decoded(decoding, part, label)
                elif number not in repeated:
                    yield from (Candidate(label, *pair) for pair in decoding.originals.pairs())

    def _decoded(self, decoding: Decoding, part: Part, label: str) -> Iterator[Candidate]:
        scores, form = self._scores(decoding, part), decoding.originals.form
        is_scored = any(folder.name == "reverse" for folder in scores)
        longest = 0
        for decoded in in_order(decoding.shards, scores):
            longest = max(longest, len(decoded.hypotheses))
            original_text = decoding.originals.pair(decoded)[0]
            original = form.subwords(original_text)
            ranks = self._ranks(decoding, part, decoded)
            if not ranks:
                self.report.dropped["not decoded"] += 1
            for rank in ranks:
                hypothesis = decoded.hypotheses[rank].text
                text, unknown = form.hypothesis(hypothesis)
                self.report.unknown_left_out += unknown
                source, target = (text, original) if part.is_reverse else (original, text)
                is_copy = self.filters.copies and form.plain(original_text).split() == form.plain(hypothesis).split()
                if reason := self.filters.reason(source, target, is_copy):
                    self.report.dropped[reason] += 1
                else:
                    yield Candidate(label, source, target, _reverse_score(decoded, rank) if is_scored else math.nan)
        if longest < part.fewest:  # only of imported lists, which differ in length; others were checked before
            logger.warning(
                f"{decoding.folder.path} has at most {longest} hypotheses of a sentence, fewer than {part.name!r} needs"
            )

    def _ranks(self, decoding: Decoding, part: Part, decoded: Decoded) -> list[int]:
        subwords = decoding.originals.form.subwords
        reference = cache(lambda: subwords(decoding.originals.pair(decoded)[1]))

        def closeness(hypothesis: str) -> float:
            return SIMILARITIES[self.similarity](subwords(hypothesis), reference())

        return part.choose(decoded, closeness) if part.choose else []

    def _scores(self, decoding: Decoding, part: Part, compute: bool = False) -> list[ScoreFolder]:
        """Return the folders of the scores that a part needs; with `compute`, missing scores are computed first."""
        folders: list[ScoreFolder] = []
        if part.is_scored:
            folders.append(self._score_folder(decoding, self.scorers[part.name], {}, None, folders, compute))
        if self.filters.worst and part.has_translated_targets:
            chosen_by = {"part": part.name, **(self.scorers[part.name].settings if folders else {})}
            if part.needs_references:
                chosen_by |= {"similarity": self.similarity, "references": decoding.originals.references_checksum}
            reverse = self.scorers["reverse"]
            folders.append(self._score_folder(decoding, reverse, chosen_by, part, folders, compute))
        return folders

    def _score_folder(
        self,
        decoding: Decoding,
        scorer: Scorer,
        chosen_by: dict,
        part: Part | None,
        known: list[ScoreFolder],
        compute: bool,
    ) -> ScoreFolder:
        """Return the folder of one scorer's scores; with `compute`, missing scores are computed first.

        All hypotheses are scored or, with `part`, those that it takes, which may depend on `known` scores.
        """
        shards, form = decoding.shards, decoding.originals.form
        folder = ScoreFolder(shards, scorer.name, {**scorer.settings, **form.settings, **chosen_by})
        if not compute:
            return folder

        def score(block: int, progress: Progress) -> ScoreBlock:
            checksum = shards.checksum(block)
            sentences, ranks, entries = [], [], []
            for decoded in read_with_scores(shards, block, known):
                sentences.append(decoded.id)
                ranks.append(self._ranks(decoding, part, decoded) if part else list(range(len(decoded.hypotheses))))
                hypotheses = [form.plain(decoded.hypotheses[rank].text) for rank in ranks[-1]]
                entries.append((form.plain(decoding.originals.pair(decoded)[0]), hypotheses))
            found = scores_of_texts(scorer, entries)
            progress.add(len(sentences))
            rows = zip(sentences, ranks, found, strict=True)
            return ScoreBlock(checksum, [Scored(number, dict(zip(*row, strict=True))) for number, *row in rows])

        fill(folder, block_sizes(shards), 0, 1, score, f"{decoding.folder.path} {scorer.name}")
        return folder

    def _repeated_base(self) -> set[int]:
        """Return which decodings have the same original pairs as an earlier one."""
        first: dict[str, Decoding] = {}
        with_base = [number for number, each in enumerate(self.decodings) if each.folder.has_originals]
        repeated = set()
        for number in with_base if len(with_base) > 1 else ():
            decoding = self.decodings[number]
            digest = hashlib.sha256()
            for pair in decoding.originals.pairs():
                digest.update("\t".join((*pair, "\n")).encode())
            earlier = first.setdefault(digest.hexdigest(), decoding)
            if earlier is not decoding:
                repeated.add(number)
                logger.warning(
                    f"{earlier.folder.path} and {decoding.folder.path} have the same original pairs, which are written "
                    "once"
                )
        return repeated


def _reverse_score(decoded: Decoded, rank: int) -> float:
    scores = scores_of(decoded, "reverse")
    if rank not in scores:
        raise UserError(
            f"sentence {decoded.id} has no score for the hypothesis that is now the closest to its reference: the "
            "references have changed; delete the folder 'scores' of the decoding, then rerun"
        )
    return scores[rank]
