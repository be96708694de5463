import errno
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_command

from nmt_kd import commands
from nmt_kd.cli import main
from nmt_kd.errors import UserError


def test_agreement_prints_a_table_or_json(teacher_path, data, capsys):
    command = ["agreement", str(teacher_path), str(teacher_path), str(data)]
    main(command)
    header, _, first, *_ = capsys.readouterr().out.splitlines()
    assert "agreement, %  top-5 edit distance  top-5 ranking distance" in header
    assert re.match(r"all +\d+ +100\.00 +100\.00 +0\.00 +0\.00 ", first)
    main([*command, "--format", "markdown", "--top-k", "3", "--confidence-bounds", "0.5"])
    table = capsys.readouterr().out
    assert "| top-3 edit distance |" in table
    assert "| teacher's confidence: (0.5, 1] " in table
    main([*command, "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert figures["teacher_agreement"] == 100
    assert figures["tokens"] == figures["agreeing"] > 0
    assert set(figures["buckets"]) == {"teacher_confidence", "source_length", "target_length", "frequency_rank"}


def test_agreement_can_print_json_and_plot_at_once(teacher_path, data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "agreement.png"
    main(["agreement", str(teacher_path), str(teacher_path), str(data), "--json", "--plot", str(file)])
    captured = capsys.readouterr()
    assert json.loads(captured.out)["teacher_agreement"] == 100
    assert captured.err.endswith(f"wrote {file}\n")
    assert file.read_bytes().startswith(b"\x89PNG")


def test_every_command_has_help_with_an_example(capsys):
    names = {module.name for module in pkgutil.iter_modules(commands.__path__)}
    assert {"average", "agreement"} <= names
    for name in names:
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
        assert f"example: nmt-kd {name}" in capsys.readouterr().out


def test_an_error_is_one_line_with_a_non_zero_exit_code():
    result = run_command(Path(sys.executable).parent / "nmt-kd", "agreement", "/none.pt", "/none.pt", "/none")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("nmt_kd: error: checkpoint /none.pt does not exist")
    assert "Traceback" not in result.stderr


def test_a_reader_that_stops_ends_the_command_quietly(tmp_path):
    generated = tmp_path / "generated"
    generated.write_text("".join(f"D-{number}\t-1\t{'word ' * 20}\n" for number in range(20_000)))
    command = [Path(sys.executable).parent / "nmt-kd", "translations", generated]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_broken_pipe_that_is_not_standard_output_is_an_error(monkeypatch):
    def run(args):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr("nmt_kd.commands.translations.run", run)
    with pytest.raises(BrokenPipeError):
        main(["translations", "x"])


def test_an_interrupted_command_ends_quietly(monkeypatch):
    def run(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("nmt_kd.commands.translations.run", run)
    assert main(["translations", "x"]) == 130


def test_a_full_disk_is_an_error_in_one_line_whatever_the_command(monkeypatch):
    def run(args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file")

    monkeypatch.setattr("nmt_kd.commands.translations.run", run)
    with pytest.raises(UserError, match="no space is left on the disk for some/file; free some, then rerun"):
        main(["translations", "x"])


def test_a_path_that_the_system_refuses_is_an_error_in_one_line(monkeypatch, tmp_path):
    present = tmp_path / "none"
    present.mkdir()
    monkeypatch.setattr("nmt_kd.commands.translations.run", lambda args: present.mkdir())
    with pytest.raises(UserError, match="/none: File exists; give another path, or change its permissions"):
        main(["translations", "x"])
