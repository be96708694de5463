"""Imports run one way: from the commands down to the losses, which know torch alone."""

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


LAYERS = (
    {"errors", "version", "options", "workers", "progress", "data", "subword_model", "losses", "storage"},
    {"compat", "command_lines", "wrong_input"},
    {"checkpoints"},
    {"engine"},
    {"caching"},
    {"criterions", "decoding", "architectures", "student_architectures"},
    {"tasks", "translators"},
    {"evaluation"},
    {"exporting"},
    {"commands"},
    {"cli"},
)


def layer_of(module: str) -> int:
    """The layer of `nmt_kd.folder...`, from the bottom."""
    part = module.split(".")[1]
    (number,) = (number for number, parts in enumerate(LAYERS) if part in parts)
    return number


def test_no_import_points_upwards():
    for path in files():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path == PACKAGE / "__init__.py":  # which puts everything together
            continue
        for name in imports_of(path):
            if name.startswith("nmt_kd.") and name.split(".")[1] in set().union(*LAYERS):
                assert layer_of(name) <= layer_of(module), f"{module} imports {name}"


def test_a_method_imports_no_other_method():
    methods = {path.stem for path in files("criterions") if "register_criterion(" in path.read_text(encoding="utf-8")}
    assert len(methods) > 5
    for path in files("criterions"):
        imported = {name.split(".")[2] for name in imports_of(path) if name.startswith("nmt_kd.criterions.")}
        assert not imported & methods, path


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
