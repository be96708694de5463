"""Parse NAME=WHAT arguments: runs with the same name, such as those with different seeds, form one system."""

from collections.abc import Collection, Mapping, Sequence, Sized

from nmt_kd.errors import UserError


def named_runs(arguments: Sequence[str], what: str) -> dict[str, list[str]]:
    """Return the runs of each system, given as `NAME=WHAT`. Raises UserError for an argument of another form."""
    runs: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, run = argument.partition("=")
        if not (name and equals and run):
            raise UserError(f"--systems is {argument!r}; it must be NAME={what}")
        runs.setdefault(name, []).append(run)
    return runs


def check_known(systems: Collection[str], baseline: str) -> None:
    """Raise UserError if the baseline is not among the systems."""
    if baseline not in systems:
        raise UserError(f"unknown baseline {baseline!r}; choose from {', '.join(systems)}")


def check_baseline(systems: Mapping[str, Sized], baseline: str | None) -> None:
    """Raise UserError if the baseline is not among the systems or differs from one of them in its number of runs."""
    if baseline is None:
        return
    check_known(systems, baseline)
    for system, runs in systems.items():
        if len(runs) != len(systems[baseline]):
            raise UserError(
                f"{system} has {len(runs)} runs, the baseline {baseline} has {len(systems[baseline])}; "
                "give every system the same number"
            )
