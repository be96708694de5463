"""Imports run one way: losses know torch alone, criterions may know losses and fairseq, nothing imports the cli."""

import ast
import sys

from conftest import ROOT

PACKAGE = ROOT / "nmt_kd"


def imports_of(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(folder="") -> list:
    found = sorted((PACKAGE / folder).rglob("*.py"))
    assert found
    return found


def test_losses_import_torch_and_the_standard_library_alone():
    for path in files("losses"):
        foreign = {name for name in imports_of(path) if not name.startswith(("torch", "nmt_kd.losses"))}
        assert {name.partition(".")[0] for name in foreign} <= sys.stdlib_module_names, path


def test_criterions_and_models_know_nothing_of_the_commands():
    above = ("nmt_kd.cli", "nmt_kd.commands", "nmt_kd.evaluation")
    for path in files():
        folder = path.parent.name
        if folder == "commands" or path.name == "cli.py":
            continue
        forbidden = [name for name in above if name != f"nmt_kd.{folder}"]
        assert not {name for name in imports_of(path) if name.startswith(tuple(forbidden))}, path


def test_a_method_imports_no_other_method():
    for path in files("criterions"):
        methods = {name for name in imports_of(path) if name.startswith("nmt_kd.criterions.")}
        assert {name.split(".")[2] for name in methods} <= {"distillation"}, path


def test_there_are_no_import_cycles():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files()
    }

    def targets(name):
        for imported in imports_of(modules[name]):
            for candidate in (imported, imported.rpartition(".")[0]):
                if candidate in modules and candidate != "nmt_kd":
                    yield candidate
                    break

    finished: set[str] = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path, name])
        if name not in finished:
            for target in targets(name):
                visit(target, [*path, name])
            finished.add(name)

    for name in modules:
        visit(name, [])


def test_checkpoints_are_loaded_in_one_place():
    for path in files():
        if path.name not in ("compat.py", "reading.py"):
            text = path.read_text(encoding="utf-8")
            assert "weights_only" not in text, path
            assert "torch.load" not in text, path
            assert "warnings" not in imports_of(path), path
