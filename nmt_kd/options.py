"""Define options of criterions, tasks and commands, each a flag with a default, a help text and allowed values."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from nmt_kd.errors import UserError


@dataclass(frozen=True)
class Allowed:
    """The values an option may have, in words and as a predicate."""

    words: str
    holds: Callable[..., bool]

    def check(self, flag: str, value) -> None:
        """Raise a UserError that names the flag unless it may have this value."""
        require(self.holds(value), flag, value, self.words)


SHARE = Allowed("from 0 to 1", lambda value: 0 <= value <= 1)
AT_LEAST_0 = Allowed("0 or more", lambda value: value >= 0)
AT_LEAST_1 = Allowed("1 or more", lambda value: value >= 1)
ABOVE_0 = Allowed("above 0", lambda value: value > 0)
ABOVE_0_TO_1 = Allowed("above 0 and at most 1", lambda value: 0 < value <= 1)


def one_of(*values: str) -> Allowed:
    """Allow only the given values."""
    return Allowed(f"{', '.join(values[:-1])} or {values[-1]}", lambda value: value in values)


def option(default, help: str, allowed: Allowed | None = None):
    """Return a dataclass field for a flag with a default, a help text and, optionally, allowed values.

    `check_options` rejects any other value with a UserError.
    """
    return field(default=default, metadata={"help": help, "allowed": allowed})


def values_of(kind: type, arguments) -> dict:
    """Return those of `arguments` that are fields of the dataclass `kind`."""
    return {item.name: getattr(arguments, item.name) for item in fields(kind) if hasattr(arguments, item.name)}


def flag(name: str) -> str:
    """Return the flag of an option."""
    return "--" + name.replace("_", "-")


def add_flags(group: argparse._ActionsContainer, kind: type) -> None:
    """Add the flags of a dataclass's options to a command; those that are not given are absent from its arguments."""
    for item in fields(kind):
        how = {"action": "store_true"} if item.type is bool else {"type": item.type}
        default = "none" if item.default == "" else "off" if item.default is False else item.default
        text = f"{item.metadata['help']} (default: {default})".replace("%", "%%")
        group.add_argument(flag(item.name), default=argparse.SUPPRESS, help=text, **how)


def check_options(settings, kind: type) -> None:
    """Raise UserError for the first of `settings` that has a value not allowed by the dataclass `kind`."""
    for item in fields(kind):
        allowed = item.metadata.get("allowed")
        if allowed is not None:
            allowed.check(flag(item.name), settings[item.name])


def require(holds: bool, flag: str, value, allowed: str) -> None:
    """Raise a UserError that names the flag, its value and the allowed values, unless `holds` is true."""
    if not holds:
        raise UserError(f"{flag} is {value}; it must be {allowed}")
