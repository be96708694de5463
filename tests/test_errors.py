import sys

import pytest

from nmt_kd.errors import UserError, show_user_errors_in_one_line, user_error_in


def test_the_message_is_found_in_the_report_of_a_worker():
    report = "-- Process 0 failed:\nTraceback (most recent call last):\nnmt_kd.errors.UserError: wrong dictionary\n"
    assert user_error_in(UserError("wrong dictionary")) == "wrong dictionary"
    assert user_error_in(RuntimeError(report)) == "wrong dictionary"
    assert user_error_in(UserError(f"Caught UserError in DataLoader worker process 0.\n{report}")) == "wrong dictionary"
    assert user_error_in(RuntimeError("other")) is None


def test_a_user_error_is_shown_in_one_line_and_other_errors_keep_their_traceback(monkeypatch, capsys):
    others = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: others.append(error))
    show_user_errors_in_one_line()
    for error in (UserError("wrong dictionary"), ValueError("a bug")):
        with pytest.raises(type(error)) as raised:
            raise error
        sys.excepthook(raised.type, raised.value, raised.tb)
    assert capsys.readouterr().err == "nmt_kd: error: wrong dictionary\n"
    assert [error[0] for error in others] == [ValueError]


def test_the_message_is_found_behind_an_exception_of_fairseq():
    theirs = Exception("Cannot load model parameters")
    theirs.__context__ = UserError("a queue of another size")
    assert user_error_in(theirs) == "a queue of another size"
