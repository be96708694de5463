import re
import sys
from pathlib import Path

import pytest

from nmt_kd.checkpoints.literals import evaluate_literal
from nmt_kd.errors import UserError


@pytest.mark.parametrize(
    "text", ["[(512, 3)] * 4 + [(1024, 1)]", "(0.9, 0.98)", "-1", "{'a': [1, None]}", "'text'", "not True", " 2 / 4"]
)
def test_literals_and_their_arithmetic_evaluate_as_in_python(text):
    assert evaluate_literal(text) == eval(text)


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os').system('true')", "open('x')", "x", "[].__class__", "[x for x in (1,)]", "lambda: 1"),
        *("f'{1}'", "[0] * 10**9", "2 ** 9 ** 9", "1 / 0", "(", "[1] * 9999999999", "{**{}}"),
    ],
)
def test_anything_else_in_a_setting_is_refused(text):
    with pytest.raises(UserError, match="not a plain literal") as error:
        evaluate_literal(text)
    assert "\n" not in str(error.value)


def test_every_fairseq_module_that_evaluates_settings_is_guarded():
    from fairseq import utils
    from fairseq.models import fconv
    from fairseq.optim import adam

    for module in (utils, fconv, adam):
        with pytest.raises(UserError):
            module.eval("__import__('os')")
    assert utils.eval_str_list("[1, 2.5]", type=float) == [1.0, 2.5]
    evaluating = re.compile(r"(?<![.\w])eval\(")
    unguarded = [
        name
        for name, module in sys.modules.items()
        if name.startswith("fairseq.") and (file := getattr(module, "__file__", None) or "").endswith(".py")
        if evaluating.search(Path(file).read_text(encoding="utf-8")) and "eval" not in vars(module)
    ]
    assert unguarded == []
