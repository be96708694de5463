"""What a teacher for plain text can do, and what the user says about it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1
from nmt_kd.translators.search import Search

UNKNOWN_LEFT_OUT = "unknown symbols left out of translations"


class Translator(Protocol):
    """A teacher with its subword model and its search."""

    languages: tuple[str, str]  # source and target
    longest_source: int  # tokens, in the teacher's own segmentation
    settings: dict  # for the manifest: the teacher's fingerprint, and all else that determines its translations
    counts: dict[str, int]  # logged as warnings at the end, if not 0

    def length(self, source: str) -> int:
        """Return the number of tokens of a source text."""

    def translate(self, sources: list[str], seed: int) -> list[list[Hypothesis]]:
        """Return the n-best lists of these texts, best first, as plain text.

        Samples depend on `sources` and `seed` alone, not on what was translated before.
        """

    def score(self, sources: list[str], translations: list[str]) -> list[float]:
        """Return for each pair the log-probability of the translation, in nats, divided by its number of tokens.

        The end counts as a token. A pair that is too long for the model has minus infinity.
        """


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher that the user names, and the options that kinds of teachers need."""

    teacher: str
    search: Search = field(default_factory=Search)
    data: str | None = None
    subword_model: Path | None = None
    target_subword_model: Path | None = None
    source_lang: str | None = None
    target_lang: str | None = None
    compute_type: str = "default"
    max_tokens: int = 12000  # of the sources in a batch, with padding
    max_source_len: int | None = None

    def __post_init__(self) -> None:
        """Raise UserError for a limit that nothing could meet."""
        for flag, limit in (("--max-tokens", self.max_tokens), ("--max-source-len", self.max_source_len)):
            if limit is not None:
                AT_LEAST_1.check(flag, limit)

    def languages(self) -> tuple[str, str]:
        """Return the languages that the user gives; raises UserError if one is missing."""
        if not self.source_lang or not self.target_lang:
            raise UserError(f"the languages of {self.teacher} are unknown; give --source-lang and --target-lang")
        return self.source_lang, self.target_lang

    def longest_source(self, limit: int) -> int:
        """Return the longest source to translate, given what the teacher can read."""
        return limit if self.max_source_len is None else min(limit, self.max_source_len)
