"""The error a user is meant to read: one line that says what is wrong, where, and what to do."""

import sys

CODE_NAME = f"{__name__}.UserError"


class UserError(Exception):
    """Wrong input. The message is one line; no traceback is shown for it."""


def user_error_in(error: BaseException) -> str | None:
    """The message of the `UserError` behind `error`, or None.

    fairseq answers whatever goes wrong while it loads a checkpoint with an exception of its own, and a worker started
    by torch reports its exception as text inside another one, whose last line names the original.
    """
    if isinstance(error, UserError):
        return str(error)
    if error.__context__ is not None:
        return user_error_in(error.__context__)
    last_line = str(error).rstrip().rpartition("\n")[2]
    prefix = f"{CODE_NAME}: "
    return last_line.removeprefix(prefix) if last_line.startswith(prefix) else None


def show_user_errors_in_one_line() -> None:
    """Let Python end a command on a `UserError` with its message and exit code 1; other errors stay as they are."""
    show_traceback = sys.excepthook

    def show(kind, error, traceback):
        message = user_error_in(error)
        if message is None:
            show_traceback(kind, error, traceback)
        else:
            print(f"nmt_kd: error: {message}", file=sys.stderr)

    sys.excepthook = show
