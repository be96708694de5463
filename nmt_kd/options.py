"""Options of criteria and tasks: a flag each, with its default, its meaning and the values it may have."""

from collections.abc import Callable
from dataclasses import field

from nmt_kd.errors import UserError


def option(default, help: str, allowed: str = "", holds: Callable[..., bool] | None = None):
    """A field of a dataclass: a flag with its default, what it means, and which values are `allowed`.

    A value for which `holds` is false ends the run with one line that says what is allowed.
    """
    return field(default=default, metadata={"help": help, "allowed": allowed, "holds": holds})


def check_options(settings, kind: type) -> None:
    """Raise UserError for the first of `settings` that its option in the dataclass `kind` does not allow."""
    for name, item in kind.__dataclass_fields__.items():
        if item.metadata.get("holds"):
            flag = "--" + name.replace("_", "-")
            require(item.metadata["holds"](settings[name]), flag, settings[name], item.metadata["allowed"])


def require(holds: bool, flag: str, value, allowed: str) -> None:
    """Raise a UserError that names the flag, its value and what it may be, unless it holds."""
    if not holds:
        raise UserError(f"{flag} is {value}; it must be {allowed}")
