"""Filter decoded pairs that should not go into a corpus."""

from dataclasses import dataclass

from nmt_kd.decoding.repetition import has_loop


@dataclass(frozen=True)
class Filters:
    """Settings of which decoded pairs to leave out; by default, only those with an empty side."""

    longest_ratio: float | None = None  # number of tokens of the longer side, divided by the shorter's
    loops: bool = False
    copies: bool = False

    def reason(self, source: str, target: str) -> str | None:
        """Return why a pair is left out, or None if it is kept."""
        lengths = len(source.split()), len(target.split())
        if not min(lengths):
            return "empty"
        if self.longest_ratio and max(lengths) > self.longest_ratio * min(lengths):
            return "length ratio"
        if self.loops and has_loop(target.split()):
            return "repetition loop"
        if self.copies and source == target:
            return "copy of the source"
        return None
