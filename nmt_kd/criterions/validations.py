"""The results of validations, which fairseq passes to the task but not to the criterion."""

from collections.abc import Callable
from dataclasses import dataclass

from fairseq.tasks import FairseqTask


def after_validation(task: FairseqTask, observe: Callable[[dict], None]) -> None:
    """Call `observe` with the averages that fairseq logs, the same on all workers, after each validation subset."""
    post_validate = getattr(task, "post_validate", None)

    def post_validate_and_observe(model, averages, aggregator):
        if post_validate is not None:
            post_validate(model, averages, aggregator)
        observe(averages)

    task.post_validate = post_validate_and_observe


@dataclass
class Validations:
    """The latest result of `--best-checkpoint-metric`, on the first of the validation subsets, until it is taken."""

    metric: str
    at_update: int = -1  # of the latest result
    result: float | None = None

    @classmethod
    def of(cls, task: FairseqTask, metric: str) -> "Validations":
        """Return validations that get the results of every validation of `task`."""
        validations = cls(metric)
        after_validation(task, validations.observe)
        return validations

    def observe(self, stats: dict) -> None:
        """Keep the result in the `stats` of a subset, unless the update has one already."""
        if stats["num_updates"] != self.at_update:
            self.at_update, self.result = stats["num_updates"], float(stats[self.metric])

    def take(self) -> float | None:
        """Return the latest result, or None if it has been taken."""
        result, self.result = self.result, None
        return result
