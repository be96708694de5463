"""Runs the shell commands of the documentation, most of them in this process, on tiny data and for two updates."""

import argparse
import contextlib
import glob
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch.distributed.run
from conftest import ROOT, TINY_TRANSFORMER, parse_training, python_variables
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate, interactive, train

from nmt_kd import cli

BIN = Path(sys.executable).parent
TINY = TINY_TRANSFORMER[3:]  # the page names the architecture
BRIEFLY = ["--cpu", "--max-update", "2", "--max-tokens", "800", "--no-save", "--num-workers", "0"]
UNSUPPORTED = {"&", "&&", "||", ";", ">>", "<", "<<"}
# Replacements for the programs that Slurm scripts start: training and decoding become dry runs.
SLURM = {
    "scontrol": "echo node1",
    "srun": 'shift 2; exec "$1" "$2" --dry-run "${@:3}"',
}


@dataclass(frozen=True)
class Command:
    """A simple command: `NAME=VALUE ... WORDS > OUTPUT`, with TYPED on standard input (`echo TYPED | WORDS`)."""

    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    output: str | None = None
    typed: str = ""


def commands_of(block: str) -> list[Command]:
    """The commands of a bash block; AssertionError for shell syntax that this module cannot run."""
    return [command for line in block.replace("\\\n", " ").splitlines() if (command := _parsed(line))]


def _parsed(line: str) -> Command | None:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>&;")
    lexer.whitespace_split = True
    words = list(lexer)
    assert not UNSUPPORTED & set(words), f"no test can run this: {line}"
    assert not re.search(r"[$`]", line), f"no test can run this: {line}"
    if not words:
        return None
    typed, output, environment = "", None, {}
    if "|" in words:
        echo, typed, _, *words = words
        assert echo == "echo", f"no test can run this: {line}"
    if ">" in words:
        *words, arrow, output = words
        assert arrow == ">", f"no test can run this: {line}"
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    return Command(words, environment, output, typed)


def run(command: Command) -> None:
    """Run a command in the current folder; any failure raises."""
    name, *arguments = command.words
    assert name in RUNNERS, f"no test can run {name}"
    printed = io.StringIO()
    with patch.dict(os.environ, command.environment), contextlib.redirect_stdout(printed):
        RUNNERS[name](replace(command, words=arguments))
    if command.output:
        assert printed.getvalue(), f"{name} printed nothing into {command.output}"
        Path(command.output).write_text(printed.getvalue(), encoding="utf-8")


# -- fairseq and nmt-kd: they really run ------------------------------------------------------------------------------


def _without_plugin(arguments: list[str]) -> tuple[list[str], str]:
    """fairseq's arguments without --user-dir, and its value; the pages must load the plugin in every command."""
    assert "--user-dir" in arguments, "fairseq without --user-dir"
    place = arguments.index("--user-dir")
    return [*arguments[:place], *arguments[place + 2 :]], arguments[place + 1]


def _train(command: Command) -> None:
    arguments, plugin = _without_plugin([word for word in command.words if word != "--fp16"])  # tests run on the CPU
    if "--help" in arguments:
        with pytest.raises(SystemExit, match=r"^0$"):
            parse_training(arguments)
        return
    assert "--arch" in arguments
    arguments += [*TINY, *BRIEFLY]
    if plugin == "nmt_kd":
        train.main(parse_training(arguments))
        return
    # A method that a page defines must not be registered in the process that runs the other tests.
    arguments += ["--user-dir", plugin, "--log-format", "json", "--log-interval", "1"]
    log = _subprocess([str(BIN / "fairseq-train"), *arguments], Path.cwd())
    assert f"to reproduce: method:{arguments[arguments.index('--criterion') + 1]}|" in log
    for file in Path(plugin).glob("*.py"):
        for term in re.findall(r'"(\w+_loss)": ', file.read_text(encoding="utf-8")):
            assert f'"{term}": ' in log


def _generation_settings(arguments: list[str], is_interactive: bool = False):
    parser = options.get_generation_parser(interactive=is_interactive)
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))


def _generate(command: Command, program=generate) -> None:
    arguments, plugin = _without_plugin([word for word in command.words if word != "--fp16"])
    assert plugin == "nmt_kd"
    settings = _generation_settings([*arguments, "--cpu", "--max-len-b", "40"], program is interactive)
    if program is generate and "--distill-dir" in arguments:  # the task ends fairseq-generate
        with pytest.raises(SystemExit, match=r"^0$"):
            program.main(settings)
    else:
        program.main(settings)


def _nmt_kd(command: Command) -> None:
    arguments = [name for word in command.words for name in (sorted(glob.glob(word)) if "*" in word else [word])]
    assert cli.main(arguments) == 0


def _torchrun(command: Command) -> None:
    """Run the workers one after the other."""
    args = torch.distributed.run.get_args_parser().parse_args(command.words)
    assert args.no_python
    workers = int(args.nproc_per_node)
    for rank in range(workers):
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": workers}
        run(Command([args.training_script, *args.training_script_args], {k: str(v) for k, v in variables.items()}))


# -- scripts: dry runs and arguments ----------------------------------------------------------------------------------


def _subprocess(words: list, folder: Path, typed: str = "", **environment: str) -> str:
    variables = {"PATH": f"{BIN}:{os.environ['PATH']}", "NMT_KD_DEVICE": "cpu"}
    variables |= {"NMT_KD_RUNS": str(Path("runs").absolute()), **python_variables()}
    result = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, **variables, **environment},
        input=typed,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, f"{words}: {result.stderr[-2000:]}"
    return result.stdout


def _script(command: Command) -> None:
    script, *arguments = command.words
    printed = _subprocess(["bash", ROOT / script, "--dry-run", *arguments], Path.cwd(), command.typed, WORKERS="1")
    if "--" in arguments:  # flags for fairseq; tests/scripts sees to all others
        _check_dry_run(printed)


def _check_dry_run(printed: str) -> int:
    """Check the fairseq commands that a dry run prints, and return how many there are."""
    checked = 0
    for line in printed.splitlines():
        words = shlex.split(line) if line.startswith("+ ") else []
        for program, parse in (("fairseq-train", parse_training), ("fairseq-generate", _generation_settings)):
            if program in words:
                parse(_without_plugin(words[words.index(program) + 1 :])[0])
                checked += 1
    return checked


class _Stop(BaseException):
    """Ends a script once its arguments are read."""


def _python(command: Command) -> None:
    """Check the arguments of a script that takes too long to run."""
    script, *arguments = command.words
    parse = argparse.ArgumentParser.parse_known_args  # which parse_args calls, too

    def parse_and_stop(parser, *args, **kwargs):
        _, unknown = parse(parser, *args, **kwargs)
        assert not unknown, f"{script} has no {unknown[0]}"
        raise _Stop

    with (
        patch.object(argparse.ArgumentParser, "parse_known_args", parse_and_stop),
        patch("sys.argv", [script, *arguments]),
        pytest.raises(_Stop),
    ):
        runpy.run_path(str(ROOT / script), run_name="__main__")


def _sbatch(command: Command) -> None:
    """Run the script as one task of a job, with the programs it starts replaced."""
    words = [word for word in command.words if not word.startswith("--")]
    slurm = Path("slurm").absolute()
    slurm.mkdir(exist_ok=True)
    for name, content in SLURM.items():
        (slurm / name).write_text(f"#!/usr/bin/env bash\n{content}\n")
        (slurm / name).chmod(0o755)
    variables = {"JOB_ID": "7", "JOB_NODELIST": "node1", "JOB_NUM_NODES": "1", "GPUS_ON_NODE": "4"}
    variables |= {"CPUS_PER_TASK": "4", "ARRAY_TASK_COUNT": "16", "ARRAY_TASK_ID": "0"}
    variables |= {"ARRAY_TASK_MIN": "0", "ARRAY_TASK_MAX": "15"}
    path = f"{slurm}:{os.environ['PATH']}"
    environment = {f"SLURM_{name}": value for name, value in variables.items()}
    printed = _subprocess(["bash", *words], ROOT, PATH=path, VIRTUAL_ENV=str(BIN.parent), **environment)
    assert _check_dry_run(printed)


def _pip(command: Command) -> None:
    """Check that this package is installed, and that it has these extras."""
    install, *packages = command.words
    assert install == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for package in packages:
        found = re.fullmatch(r"\.(?:\[([\w,]+)\])?", package)
        assert found, f"pip install {package} does not install this package"
        assert set((found[1] or "").split(",")) - {""} <= set(extras), package


RUNNERS: dict[str, Callable[[Command], None]] = {
    "fairseq-train": _train,
    "fairseq-generate": _generate,
    "fairseq-interactive": lambda command: _generate(command, interactive),
    "nmt-kd": _nmt_kd,
    "torchrun": _torchrun,
    "bash": _script,
    "python": _python,
    "sbatch": _sbatch,
    "pip": _pip,
}
