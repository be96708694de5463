"""scripts/setup.sh, with a Python that only writes down what it is told to install."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, STAND_INS, run_command
from setuptools import Distribution, Extension

PYTHON = """#!/bin/sh
case "$*" in
*sys.executable*) echo "$0" ;;
*"-m venv"*) mkdir -p .venv/bin .venv/lib/python3.11/site-packages && cp "$0" .venv/bin/python ;;
*"pip show"*) test -e .venv/fairseq ;;
*"pip wheel"*) touch "$7/fairseq.whl" ;;
*"pip install"*)
    echo "$@" >>calls
    case "$*" in *"$FAIL_AT"*) exit 1 ;; *.whl*) touch .venv/fairseq ;; esac ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """A clone whose set-up takes no time."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    python = folder / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return folder


def setup(project, *arguments, fail_at="nothing", **environment):
    """Run the set-up; return the packages of each pip install, and the process."""
    (project / "calls").unlink(missing_ok=True)
    result = subprocess.run(
        ["bash", project / "scripts/setup.sh", *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(project / "python"), "FAIL_AT": fail_at, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    calls = project / "calls"
    return (calls.read_text().splitlines() if calls.exists() else []), result


def test_training_needs_none_of_the_test_tools_and_a_second_run_installs_nothing(project):
    calls, result = setup(project)
    assert result.returncode == 0, result.stderr
    assert calls[-1].endswith("fairseq.whl --editable .")
    assert setup(project, "train")[0] == []


def test_the_test_environment_adds_to_the_one_for_training_and_serves_both(project):
    setup(project, "train")
    calls, _ = setup(project, "dev")
    assert calls[-1].endswith("--no-build-isolation --editable .[dev]")  # fairseq is not built again
    assert setup(project, "dev")[0] == []
    assert setup(project, "train")[0] == []


def test_it_can_be_called_from_any_folder(project, monkeypatch):
    monkeypatch.chdir(project.parent)
    result = setup(Path("clone"), PYTHON=str(project / "python"))[1]
    assert (result.returncode, result.stderr) == (0, "")


def test_a_changed_project_keeps_the_test_tools(project):
    setup(project, "dev")
    (project / "pyproject.toml").write_text((project / "pyproject.toml").read_text() + "# changed\n")
    assert setup(project, "train")[0][-1].endswith(".[dev]")


@pytest.mark.parametrize("extra", ["train", "dev"])
def test_a_set_up_that_did_not_finish_starts_over(project, extra):
    _, result = setup(project, extra, fail_at="--editable")
    assert result.returncode == 1
    assert "installing nmt-kd and its other dependencies failed; see" in result.stderr
    (project / ".venv/left_over").touch()
    calls, result = setup(project, extra)
    assert result.returncode == 0, result.stderr
    assert "removing .venv, which is incomplete" in result.stdout
    assert not (project / ".venv/left_over").exists()
    assert "fairseq.whl" in calls[-1]


def test_a_half_installed_test_environment_is_not_taken_for_one_for_training(project):
    setup(project, "train")
    assert setup(project, "dev", fail_at="[dev]")[1].returncode == 1
    calls, _ = setup(project, "train")
    assert calls[-1].endswith("fairseq.whl --editable .")


def test_an_environment_of_another_folder_is_made_again(project):
    setup(project)
    moved = project.rename(project.with_name("moved"))
    calls, result = setup(moved)
    assert "removing .venv, which is incomplete, broken or moved" in result.stdout
    assert "fairseq.whl" in calls[-1]


BY_NAME = """
import argparse, sys
from fairseq import utils
utils.__file__ = sys.argv[1] + "/fairseq/utils.py"
utils.import_user_module(argparse.Namespace(user_dir="nmt_kd"))
import nmt_kd.criterions.word_kd
print(nmt_kd.__file__, nmt_kd.criterions.word_kd.__file__)
"""


@pytest.mark.parametrize("made_earlier", [False, True])
def test_the_plugin_is_found_by_name_from_any_folder(project, tmp_path, made_earlier):
    setup(project)
    packages = project / ".venv/lib/python3.11/site-packages"
    if made_earlier:  # by a version that did not see to this
        shutil.rmtree(packages / "nmt_kd")
        assert setup(project)[0] == []
    (packages / "fairseq").mkdir()
    (project / "nmt_kd").symlink_to(ROOT / "nmt_kd")
    result = run_command(
        sys.executable, "-c", BY_NAME, packages, cwd=tmp_path, environment={"PYTHONPATH": str(STAND_INS)}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(project / f"nmt_kd/{name}.py") for name in ("__init__", "criterions/word_kd")]


def test_torch_is_pinned_unless_another_version_is_asked_for(project):
    constraints = project / ".venv/constraints.txt"
    setup(project)
    assert "torch==2.13.0\n" in constraints.read_text()
    assert setup(project, TORCH="2.6.0")[0]
    assert "torch==2.6.0\n" in constraints.read_text()
    assert "numpy<2\n" in constraints.read_text()


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["all"], {}, "unknown set of packages 'all'; choose train or dev"),
        ([], {"PYTHON": "/bin/false"}, "/bin/false is not Python 3.11 or 3.12 with the venv module; name one with"),
    ],
)
def test_wrong_arguments_end_in_one_line(project, arguments, environment, message):
    calls, result = setup(project, *arguments, **environment)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert calls == []
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("has_environment", [False, True])
@pytest.mark.parametrize("answer", ["exit 1", "exit 0"])
def test_a_python_that_does_not_serve_is_refused_before_anything_is_done(project, answer, has_environment):
    """The second one has the right version, but does not tell its path."""
    if has_environment:
        setup(project)
        (project / "pyproject.toml").write_text((project / "pyproject.toml").read_text() + "# changed\n")
    python = project / "python3.13"
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    before = {path for path in project.rglob("*") if path.name != "calls"}
    calls, result = setup(project, PYTHON=str(python))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"setup.sh: error: {python} is not Python 3.11 or 3.12 with the venv module; name one with "
        "PYTHON=/path/to/python3.11\n"
    )
    assert calls == []
    assert set(project.rglob("*")) - {project / "setup.log"} == before - {project / "setup.log"}  # which is locked


def test_fairseq_is_built_without_the_extensions_that_include_torch():
    path = ROOT / "scripts/fairseq_build/torch/utils/cpp_extension.py"
    spec = importlib.util.spec_from_file_location("cpp_extension", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kept = Extension("fairseq.data.data_utils_fast", sources=["data_utils_fast.cpp"])
    distribution = Distribution({"ext_modules": [kept, module.CppExtension("fairseq.libnat", sources=["nat.cpp"])]})
    command = module.BuildExtension(distribution)
    command.ensure_finalized()
    assert command.extensions == [kept]
