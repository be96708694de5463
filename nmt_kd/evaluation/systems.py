"""Group training runs into systems: runs that differ only in their seeds."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from nmt_kd.errors import UserError
from nmt_kd.evaluation.evaluations import Evaluation
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
        """Return a measure of each run, or None if any run lacks it or its files are incomplete."""
        try:
            found = [value for run in self.runs if (value := measure(run)) is not None]
        except UserError:
            return None
        return found if len(found) == len(self.runs) else None

    def evaluations(self, test_set: str) -> list[Evaluation] | None:
        """Return the results of each run on a test set, or None unless every run has translations of it."""
        found = self.values(lambda run: run.evaluations.get(test_set))
        translated = self.values(lambda run: run.evaluations[test_set].hypotheses if found else None)
        return found if translated else None

    @property
    def test_sets(self) -> list[str]:
        """The names of the test sets on which any run has results."""
        of_runs = self.values(lambda run: list(run.evaluations)) or []
        return list(dict.fromkeys(test_set for names in of_runs for test_set in names))

    @property
    def problems(self) -> list[str]:
        """What is wrong with the files of the runs, one line each."""
        found = []
        for run in self.runs:
            parts = [
                partial(getattr, run, name) for name in ("settings", "parameters", "training_seconds", "evaluations")
            ]
            for evaluation in run.evaluations.values() if self.test_sets else ():
                parts += [partial(getattr, evaluation, name) for name in ("hypotheses", "agreement")]
            for read in parts:
                try:
                    read()
                except UserError as error:
                    found.append(str(error))
        return list(dict.fromkeys(found))

    def mean(self, measure: Callable[[Run], float | None]) -> float | None:
        """Return the mean of a measure over the runs, or None if any run lacks it."""
        values = self.values(measure)
        return None if values is None else statistics.mean(values)


def systems_of(runs: Iterable[Run]) -> list[System]:
    """Group runs into systems, in the order of their first runs; the shortest run name becomes the system's.

    Raises UserError if two systems of a data set have the same name.
    """
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if _same_system(run, group[0]):
                group.append(run)
                break
        else:
            groups.append([run])
    systems = [System(min((run.name for run in group), key=len), group) for group in groups]
    named: dict[tuple[str, str], System] = {}
    for system in systems:
        other = named.setdefault((system.data_set, system.name), system)
        if other is not system:
            raise UserError(
                f"{other.runs[0].folder} and {system.runs[0].folder} have different settings and the same name; rename "
                "one of the folders"
            )
    return systems


def _same_system(one: Run, other: Run) -> bool:
    if one.data_set != other.data_set:
        return False
    try:
        return one.meaningful_settings == other.meaningful_settings
    except UserError:  # a log without settings
        return False
