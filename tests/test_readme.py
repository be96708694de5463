"""What the README shows is true: the method in it trains, the commands in it exist."""

import re
import sys
from pathlib import Path

from conftest import METHODS, ROOT, TINY_TRANSFORMER, TRAINING, run_command

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_method_of_the_readme_trains_from_a_folder_of_its_own(data, teacher_path, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "my_method").mkdir()
    (tmp_path / "my_method/__init__.py").write_text(code)
    result = run_command(
        *(Path(sys.executable).parent / "fairseq-train", data, *TINY_TRANSFORMER, *TRAINING, "--max-update", "3"),
        *("--user-dir", tmp_path / "my_method", "--criterion", "reverse_kd", "--teacher-path", teacher_path),
        *("--kd-alpha", "0.3", "--reverse-share", "0.8", "--save-dir", tmp_path / "out"),
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "to reproduce: method:reverse_kd|" in result.stdout
    assert '"reverse_kd_loss": ' in result.stdout


def test_every_script_and_folder_it_names_is_there():
    names = set(re.findall(r"(?:scripts|configs|nmt_kd|tests)/[\w/]+(?:\.\w+)?", README))
    assert len(names) > 8
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


def test_every_method_of_the_table_is_a_criterion():
    section = README.partition("## Methods")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(METHODS)


def test_every_experiment_is_in_its_table():
    section = README.partition("## The papers' experiments")[2].partition("\n## ")[0]
    table = "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) == {path.stem for path in (ROOT / "configs/experiments").glob("*.sh")}


def test_every_command_of_nmt_kd_is_in_the_table():
    section = README.partition("## Commands")[2].partition("\n## ")[0]
    commands = {path.stem for path in (ROOT / "nmt_kd/commands").glob("[a-z]*.py")}
    assert set(re.findall(r"^\| `nmt-kd (\w+)", section, re.MULTILINE)) == commands
