import json
import sys
from pathlib import Path

import pytest
from conftest import run_command

from nmt_kd.cli import build_parser, main


def test_agreement_prints_a_sentence_or_json(teacher_path, data, capsys):
    command = ["agreement", str(teacher_path), str(teacher_path), str(data)]
    main(command)
    assert capsys.readouterr().out.startswith("top-1 agreement: 100.00 % of ")
    main([*command, "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert figures["teacher_agreement"] == 100
    assert figures["tokens"] == figures["agreeing"] > 0


def test_every_command_has_help_with_an_example(capsys):
    commands = build_parser()._subparsers._group_actions[0].choices
    assert {"average", "agreement"} <= set(commands)
    for name, parser in commands.items():
        assert f"example: nmt-kd {name}" in parser.epilog
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
    assert "example: nmt-kd average" in capsys.readouterr().out


def test_failure_is_one_line_and_a_non_zero_exit():
    result = run_command(Path(sys.executable).parent / "nmt-kd", "agreement", "/none.pt", "/none.pt", "/none")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("nmt_kd: error: checkpoint /none.pt does not exist")
    assert "Traceback" not in result.stderr
