"""Filter pairs that should not go into a corpus."""

from dataclasses import dataclass
from fractions import Fraction

from nmt_kd.decoding.repetition import has_loop
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1


@dataclass(frozen=True)
class Filters:
    """The pairs to leave out; by default, only decoded ones with an empty side."""

    longest_ratio: float | None = None  # number of tokens of the longer side, divided by the shorter's
    loops: bool = False
    copies: bool = False
    worst: Fraction = Fraction(0)  # share of the decoded pairs that a reverse model scores lowest
    duplicates: bool = False

    def check(self) -> None:
        """Raise UserError for a value that is not allowed."""
        if self.longest_ratio is not None:
            AT_LEAST_1.check("--max-length-ratio", self.longest_ratio)

    def reason(self, source: str, target: str, is_copy: bool) -> str | None:
        """Return why a decoded pair is left out, or None if it is kept; `is_copy`: both sides are the same text."""
        lengths = len(source.split()), len(target.split())
        if not min(lengths):
            return "empty"
        if self.longest_ratio and max(lengths) > self.longest_ratio * min(lengths):
            return "length ratio"
        if self.loops and has_loop(target.split()):
            return "repetition loop"
        if self.copies and is_copy:
            return "copy of the source"
        return None


def parse_share(text: str) -> Fraction:
    """Parse a share such as 5% or 0.05; raises UserError unless it is at least 0 and less than 100 %."""
    try:
        share = Fraction(text.removesuffix("%").strip()) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share < 1:
        raise UserError(f"--drop-worst is {text}; it must be at least 0 and less than 100 %, such as 5% or 0.05")
    return share
