"""Options of criteria and tasks: a flag each, with its default, its meaning and the values it may have."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nmt_kd.errors import UserError


@dataclass(frozen=True)
class Allowed:
    """Which values an option may have, in words and as a test."""

    words: str
    holds: Callable[..., bool]


SHARE = Allowed("from 0 to 1", lambda value: 0 <= value <= 1)
AT_LEAST_0 = Allowed("0 or more", lambda value: value >= 0)
AT_LEAST_1 = Allowed("1 or more", lambda value: value >= 1)


def one_of(*values: str) -> Allowed:
    """One of these words."""
    return Allowed(f"{', '.join(values[:-1])} or {values[-1]}", lambda value: value in values)


def option(default, help: str, allowed: Allowed | None = None):
    """A field of a dataclass: a flag with its default, what it means, and which values are allowed.

    Any other value ends the run with one line that says what is allowed.
    """
    return field(default=default, metadata={"help": help, "allowed": allowed})


def check_options(settings, kind: type) -> None:
    """Raise UserError for the first of `settings` that its option in the dataclass `kind` does not allow."""
    for name, item in kind.__dataclass_fields__.items():
        allowed = item.metadata.get("allowed")
        if allowed is not None:
            require(allowed.holds(settings[name]), "--" + name.replace("_", "-"), settings[name], allowed.words)


def require(holds: bool, flag: str, value, allowed: str) -> None:
    """Raise a UserError that names the flag, its value and what it may be, unless it holds."""
    if not holds:
        raise UserError(f"{flag} is {value}; it must be {allowed}")
