"""Group training runs into systems: runs that differ only in their seeds."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from nmt_kd.evaluation.runs import Run

T = TypeVar("T")


@dataclass(frozen=True)
class System:
    """Runs on one data set that differ only in their seeds."""

    name: str
    runs: list[Run]

    @property
    def data_set(self) -> str:
        """The name of the data set of all runs."""
        return self.runs[0].data_set

    def values(self, measure: Callable[[Run], T | None]) -> list[T] | None:
        """Return a measure of each run, or None if any run lacks it."""
        found = [value for run in self.runs if (value := measure(run)) is not None]
        return found if len(found) == len(self.runs) else None

    def mean(self, measure: Callable[[Run], float | None]) -> float | None:
        """Return the mean of a measure over the runs, or None if any run lacks it."""
        values = self.values(measure)
        return None if values is None else statistics.mean(values)


def systems_of(runs: Iterable[Run]) -> list[System]:
    """Group runs into systems, in the order of their first runs; the shortest run name becomes the system's."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if (run.data_set, run.meaningful_settings) == (group[0].data_set, group[0].meaningful_settings):
                group.append(run)
                break
        else:
            groups.append([run])
    return [System(min((run.name for run in group), key=len), group) for group in groups]
