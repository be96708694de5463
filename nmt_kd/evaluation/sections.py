"""The sections of a report, whatever its format."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nmt_kd.evaluation.examples import Comparison
from nmt_kd.evaluation.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure that can be drawn in two shapes, with its file name, without suffix, and its caption."""

    name: str
    caption: str
    draw: Callable[[bool], "Figure"]  # its argument says whether to draw it narrow, for a phone

    def prefixed(self, prefix: str) -> "Plot":
        """Return the plot with a prefix to its file name."""
        return replace(self, name=f"{prefix}{self.name}")


@dataclass(frozen=True)
class Section:
    """A part of a report with its own heading; a text is a note."""

    title: str
    parts: list[Table | Plot | Comparison | str]

    @property
    def plots(self) -> list[Plot]:
        """The plots of the section."""
        return [part for part in self.parts if isinstance(part, Plot)]
