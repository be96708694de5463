"""Keep code out of configurations: settings that fairseq passes to `eval` must be literals."""

import ast
import builtins
import operator
import sys
from collections.abc import Callable, Sized

from nmt_kd.errors import UserError

_ARITHMETIC: dict[type[ast.operator], Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_UNARY: dict[type[ast.unaryop], Callable] = {ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_}
_LONGEST_LAYER_LIST = 10_000


def evaluate_literal(text: str):
    """Evaluate a literal such as "[(512, 3)] * 8 + [(1024, 1)]" as `eval` would, without running code.

    fairseq passes such settings to `eval`, and they may come from a checkpoint. Raises UserError for names, calls,
    attributes and everything else except numbers, strings, containers and their arithmetic.
    """

    def value(node):
        match node:
            case ast.Constant():
                return node.value
            case ast.List():
                return [value(element) for element in node.elts]
            case ast.Tuple():
                return tuple(value(element) for element in node.elts)
            case ast.Set():
                return {value(element) for element in node.elts}
            case ast.Dict() if None not in node.keys:
                return {value(key): value(element) for key, element in zip(node.keys, node.values, strict=True)}
            case ast.UnaryOp() if type(node.op) in _UNARY:
                return _UNARY[type(node.op)](value(node.operand))
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                left, right = value(node.left), value(node.right)
                _check_length(node.op, left, right)
                return _ARITHMETIC[type(node.op)](left, right)
        raise ValueError

    def _check_length(operation, left, right):
        if isinstance(operation, ast.Mult):
            for sequence, factor in ((left, right), (right, left)):
                if isinstance(sequence, Sized) and len(sequence) * factor > _LONGEST_LAYER_LIST:
                    raise ValueError

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, TypeError, ZeroDivisionError, RecursionError, MemoryError):
        raise UserError(
            f"setting {text[:80]!r} is not a plain literal, and fairseq would run it as code; use only numbers, "
            "strings and lists for this setting, on the command line or in the checkpoint's configuration"
        ) from None


def forbid_code_in_configurations() -> None:
    """Make every fairseq module that calls `eval` on a setting call `evaluate_literal` instead.

    A module's own names take precedence over Python's built-in ones, so defining `eval` in each module covers all
    calls, without a list of the settings concerned.
    """

    def evaluate(text, *namespaces):
        return evaluate_literal(text) if isinstance(text, str) else builtins.eval(text, *namespaces)

    for name, module in list(sys.modules.items()):
        if name == "fairseq" or name.startswith("fairseq."):
            vars(module)["eval"] = evaluate
