"""Configurations are data: settings that fairseq hands to `eval` may hold literals and nothing else."""

import ast
import builtins
import operator
import sys

from nmt_kd.errors import UserError

_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_SIGNS = {ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_}
_LONGEST_LAYER_LIST = 10_000


def evaluate_literal(text: str):
    """What `eval` would give for a literal such as "[(512, 3)] * 8 + [(1024, 1)]", and nothing that runs code.

    fairseq hands such settings to `eval`, and they may come from a checkpoint. Raises UserError for names, calls,
    attributes and anything else that is not numbers, strings, containers and their arithmetic.
    """

    def value(node):
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple() | ast.Set():
                kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
                return kind(value(element) for element in node.elts)
            case ast.Dict() if None not in node.keys:
                return {value(key): value(element) for key, element in zip(node.keys, node.values, strict=True)}
            case ast.UnaryOp() if type(node.op) in _SIGNS:
                return _SIGNS[type(node.op)](value(node.operand))
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                left, right = value(node.left), value(node.right)
                _check_length(node.op, left, right)
                return _ARITHMETIC[type(node.op)](left, right)
        raise ValueError

    def _check_length(operation, left, right):
        if isinstance(operation, ast.Mult):
            for sequence, factor in ((left, right), (right, left)):
                if hasattr(sequence, "__len__") and len(sequence) * factor > _LONGEST_LAYER_LIST:
                    raise ValueError

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, TypeError, ZeroDivisionError, RecursionError, MemoryError):
        raise UserError(
            f"the setting {text[:80]!r} is not a plain literal and fairseq would run it as code; refused. "
            "It stands in the checkpoint's configuration or on the command line: use numbers, strings and lists"
        ) from None


def forbid_code_in_configurations() -> None:
    """Let every module of fairseq that calls `eval` on a setting call `evaluate_literal` instead.

    A module looks a name up in itself before it looks among Python's own, so this reaches all the places and no
    list of settings has to be kept.
    """

    def evaluate(text, *namespaces):
        return evaluate_literal(text) if isinstance(text, str) else builtins.eval(text, *namespaces)

    for name, module in list(sys.modules.items()):
        if name == "fairseq" or name.startswith("fairseq."):
            module.eval = evaluate
