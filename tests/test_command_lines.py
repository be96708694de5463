"""fairseq's --help shows the options of everything that the command line chooses."""

import re
import sys
from pathlib import Path

import pytest
from conftest import EVERY_METHOD, ROOT, run_command
from fairseq import options
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY

from nmt_kd.tasks.seq_kd import SeqKDConfig


def help_of(parser, arguments, capsys) -> str:
    with pytest.raises(SystemExit) as end:
        options.parse_args_and_arch(parser, arguments)
    assert end.value.code == 0
    return capsys.readouterr().out


def flags_of(kind: type) -> list[str]:
    return [
        "--" + name.replace("_", "-") for name, item in kind.__dataclass_fields__.items() if "help" in item.metadata
    ]


def is_listed(flag: str, shown: str) -> bool:
    return re.search(rf"^  {flag}(?![\w-])", shown, re.MULTILINE) is not None


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_help_shows_the_options_of_the_criterion(method, flag, capsys):
    shown = help_of(options.get_training_parser(), ["--criterion", method, flag], capsys)
    assert [name for name in flags_of(CRITERION_DATACLASS_REGISTRY[method]) if not is_listed(name, shown)] == []
    assert "--encoder-layers" in help_of(options.get_training_parser(), [flag, "--arch", "transformer"], capsys)


def test_help_shows_the_options_of_the_task(capsys):
    shown = help_of(options.get_generation_parser(), ["data-bin", "--task", "seq_kd", "--help"], capsys)
    assert [name for name in flags_of(SeqKDConfig) if name != "--data" and not is_listed(name, shown)] == []
    assert "--distill-dir" not in help_of(options.get_generation_parser(), ["data-bin", "--help"], capsys)


def test_the_command_of_the_documentation_prints_the_options():
    command = [Path(sys.executable).parent / "fairseq-train", "--criterion", "tie_kd", "--user-dir", ROOT / "nmt_kd"]
    result = run_command(*command, "--help")
    assert result.returncode == 0
    assert "--kd-iterations" in result.stdout


def test_a_command_line_without_help_is_read_as_before(capsys):
    arguments = ["data-bin", "--arch", "transformer", "--criterion", "tie_kd", "--kd-iterations", "2"]
    parsed = options.parse_args_and_arch(options.get_training_parser(), arguments)
    assert (parsed.data, parsed.kd_iterations) == ("data-bin", 2)
    with pytest.raises(SystemExit) as end:
        options.parse_args_and_arch(options.get_training_parser(), [*arguments, "--no-such-option"])
    assert end.value.code == 2
    assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err
