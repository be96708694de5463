"""Errors meant for the user: one line that says what is wrong, where, and what to do."""

import sys

CODE_NAME = f"{__name__}.UserError"


class UserError(Exception):
    """Wrong input. Its message is a single line, shown without a traceback."""


def in_one_line(error: Exception, characters: int = 300) -> str:
    """Return the message of another library's error on one line, cut to a number of `characters`."""
    return " ".join(str(error).split())[:characters]


def user_error_in(error: BaseException) -> str | None:
    """Return the message of the `UserError` that caused `error`, or None.

    fairseq wraps any error while loading a checkpoint in another exception. torch reports the exception of a worker
    process as text in the message of another exception, whose last line names the original.
    """
    last_line = str(error).rstrip().rpartition("\n")[2]
    prefix = f"{CODE_NAME}: "
    if last_line.startswith(prefix):  # also in a UserError, with which torch reports one of a data loader's worker
        return last_line.removeprefix(prefix)
    if isinstance(error, UserError):
        return str(error)
    return None if error.__context__ is None else user_error_in(error.__context__)


def show_user_errors_in_one_line() -> None:
    """Make Python print only the message of an uncaught `UserError`; other errors keep their traceback."""
    show_traceback = sys.excepthook

    def show(kind, error, traceback):
        message = user_error_in(error)
        if message is None:
            show_traceback(kind, error, traceback)
        else:
            print(f"nmt_kd: error: {message}", file=sys.stderr)

    sys.excepthook = show
