"""Read the results of a training run: its training log, and its evaluation on test sets.

A run is a folder written by `scripts/train.sh` and `scripts/evaluate.sh`. It contains `train.log` (the output of
fairseq-train with `--log-format json`) and, optionally, the files that are described in `evaluations`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nmt_kd.errors import UserError
from nmt_kd.evaluation import training_log
from nmt_kd.evaluation.evaluations import FIRST, Evaluation, evaluated_test_sets


@dataclass(frozen=True)
class Point:
    """A point on a learning curve."""

    updates: int
    seconds: float  # of training up to here, without validation, over all restarts; NaN if unknown
    value: float


@dataclass(frozen=True)
class Run:
    """A training run in its folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The name of the run's folder, which is that of the system."""
        return self.folder.name

    @property
    def data_set(self) -> str:
        """The name of the data set, which is that of the parent folder."""
        return self.folder.absolute().parent.name

    # -- the training log ---------------------------------------------------------------------------------------------

    @cached_property
    def log(self) -> str:
        """The text of the training log."""
        try:
            return (self.folder / "train.log").read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.folder} has no train.log; give a folder written by scripts/train.sh, or save the output of "
                "fairseq-train there (fairseq-train --log-format json ... | tee FOLDER/train.log)"
            ) from None

    def _lacks(self, what: str) -> UserError:
        return UserError(
            f"{self.folder / 'train.log'} does not contain {what}; save the complete output of fairseq-train there"
        )

    @cached_property
    def settings(self) -> dict[str, object]:
        """The settings of the last training in the log, by flag name, with fairseq's groups merged."""
        found = training_log.settings_in(self.log)
        if found is None:
            raise self._lacks("fairseq-train's settings")
        return found

    @property
    def meaningful_settings(self) -> dict[str, object]:
        """The settings that affect what is trained, without the seed; `data` is the folder's name without its path."""
        return training_log.without_incidental(self.settings)

    @property
    def parameters(self) -> int:
        """The number of parameters of the model."""
        found = training_log.parameters_in(self.log)
        if found is None:
            raise self._lacks("the number of parameters")
        return found

    @property
    def languages(self) -> tuple[str, str]:
        """The source and target language, as given to fairseq or inferred by it."""
        found = training_log.languages_in(self.log)
        if found is None:
            raise self._lacks("the languages")
        return found

    # -- training statistics ------------------------------------------------------------------------------------------

    @cached_property
    def _records(self) -> dict[str, dict[int, dict]]:
        return training_log.records_in(self.log)

    @cached_property
    def _intervals(self) -> dict[int, dict]:
        """The training statistics by number of updates: those of each --log-interval or, in a short run, each epoch."""
        found = self._records["train_inner"] or self._records["train"]
        if not any(float(record.get("wps", 0)) > 0 for record in found.values()):
            raise UserError(
                f"{self.folder / 'train.log'} has no training statistics; train with --log-format json, for an epoch "
                "or for at least --log-interval updates"
            )
        return found

    @cached_property
    def _seconds(self) -> dict[int, float]:
        """The seconds of training up to each logged number of updates.

        fairseq's words per second include validation time, so an interval with a validation is assumed to take the
        median time per update.
        """
        seconds, before, total, usual = {}, 0, 0.0, self.seconds_per_update
        for updates, record in self._intervals.items():
            if any(before <= at < updates for at in self._records["valid"]):
                total += (updates - before) * usual
            elif float(record["wps"]) > 0:
                total += (updates - before) * float(record["wpb"]) / float(record["wps"])
            seconds[updates], before = total, updates
        return seconds

    def _seconds_at(self, updates: int) -> float:
        try:
            known = self._seconds
        except UserError:
            return float("nan")
        nearest = max((before for before in known if before <= updates), default=min(known))
        return known[nearest] * updates / nearest

    def curve(self, measure: str, kind: str = "valid") -> list[Point]:
        """Return a measure over the course of training, as logged by validation or, with `train_inner`, by training.

        The curve is empty if the measure was not logged.
        """
        return [
            Point(updates, self._seconds_at(updates), float(record[measure]))
            for updates, record in self._records[kind].items()
            if measure in record
        ]

    @property
    def updates(self) -> int:
        """The number of updates made."""
        found = [updates for records in self._records.values() for updates in records]
        return max(found or self._intervals)

    @property
    def training_seconds(self) -> float:
        """The seconds of training, without validation, over all restarts."""
        last = max(self._seconds)
        return self._seconds[last] * self.updates / last  # the log may end before the next interval does

    @property
    def seconds_per_update(self) -> float:
        """The median over the log's intervals; other load on the machine affects it less than it affects the mean."""
        speeds = sorted(
            float(record["wpb"]) / float(record["wps"])
            for record in self._intervals.values()
            if float(record["wps"]) > 0
        )
        return speeds[len(speeds) // 2]

    @property
    def tokens_per_update(self) -> float:
        """The mean number of target tokens per update."""
        values = [float(record["wpb"]) for record in self._intervals.values()]
        return sum(values) / len(values)

    # -- evaluation ---------------------------------------------------------------------------------------------------

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """The results by test set: the first test set, called `test`, and the others that have been evaluated."""
        return {name: Evaluation(self.folder, name, self.languages) for name in evaluated_test_sets(self.folder)}

    @property
    def hypotheses(self) -> list[str] | None:
        """The translations of the first test set, or None if it has not been translated yet."""
        return self.evaluations[FIRST].hypotheses

    @property
    def references(self) -> list[str]:
        """The references of the first test set."""
        return self.evaluations[FIRST].references

    @property
    def agreement(self) -> dict | None:
        """The output of `nmt-kd agreement --json` for the first test set, or None if there is none."""
        return self.evaluations[FIRST].agreement

    @property
    def decoding_sentences_per_second(self) -> float | None:
        """The speed that fairseq-generate reported for the first test set, or None."""
        return self.evaluations[FIRST].sentences_per_second


def settings_that_differ(runs: list[Run]) -> dict[str, list[object]]:
    """Return the settings in which the runs differ, apart from the seed; None stands for a setting a run lacks."""
    names = sorted({name for run in runs for name in run.meaningful_settings})
    values = {name: [run.meaningful_settings.get(name) for run in runs] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}
