"""The results of validations, which fairseq passes to the task but not to the criterion."""

from dataclasses import dataclass

from fairseq.tasks import FairseqTask


@dataclass
class Validations:
    """The latest result of `--best-checkpoint-metric`, on the first of the validation subsets, until it is taken."""

    metric: str
    at_update: int = -1  # of the latest result
    result: float | None = None

    @classmethod
    def of(cls, task: FairseqTask, metric: str) -> "Validations":
        """Return validations that get the results of every validation of `task`."""
        validations, previous = cls(metric), getattr(task, "post_validate", None)

        def post_validate(model, stats, agg):
            validations.observe(stats)
            if previous is not None:
                previous(model, stats, agg)

        task.post_validate = post_validate  # fairseq-train calls it on every worker, after each subset
        return validations

    def observe(self, stats: dict) -> None:
        """Keep the result in the `stats` of a subset, unless the update has one already."""
        if stats["num_updates"] != self.at_update:
            self.at_update, self.result = stats["num_updates"], float(stats[self.metric])

    def take(self) -> float | None:
        """Return the latest result, or None if it has been taken."""
        result, self.result = self.result, None
        return result
