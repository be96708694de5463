"""fairseq's commands and nmt-kd answer wrong input with one line; fairseq alone ends in a traceback."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY_TRANSFORMER, TRAINING, run_command, train_here
from fairseq_cli import generate, interactive, train, validate

from nmt_kd import cli
from nmt_kd.errors import UserError

BIN = Path(sys.executable).parent
PLUGIN = ["--user-dir", ROOT / "nmt_kd"]
PROGRAMS = {
    "fairseq-train": train.cli_main,
    "fairseq-generate": generate.cli_main,
    "fairseq-interactive": interactive.cli_main,
    "fairseq-validate": validate.cli_main,
    "nmt-kd": cli.main,
}


@pytest.fixture(scope="module")
def without_test_set(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("without_test_set") / "data-bin"
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("test*"))
    return folder


@pytest.fixture(scope="module")
def in_three_languages(data, tmp_path_factory) -> Path:
    """Data with a dictionary of French, but no French text."""
    folder = tmp_path_factory.mktemp("in_three_languages") / "data-bin"
    shutil.copytree(data, folder)
    shutil.copy(data / "dict.de.txt", folder / "dict.fr.txt")
    return folder


@pytest.fixture
def known(data, teacher_path, without_test_set, in_three_languages, tmp_path) -> dict:
    """What the commands below name in braces."""
    return {
        "data": data,
        "teacher": teacher_path,
        "two": without_test_set,
        "three": in_three_languages,
        "docs": ROOT / "docs",
        "train": " ".join(map(str, [*PLUGIN, *TINY_TRANSFORMER, *TRAINING, "--save-dir", tmp_path, "--max-update 1"])),
        "plugin": " ".join(map(str, [*PLUGIN, "--cpu"])),
    }


COMMANDS = {
    # missing data
    "fairseq-train /none {train}": "data folder /none does not exist; give a folder that fairseq-preprocess wrote",
    "fairseq-train {teacher} {train}": "data folder {teacher} is a file; give a folder that fairseq-preprocess wrote",
    "fairseq-generate /none {plugin} --path {teacher}": "data folder /none does not exist; give a folder that",
    "fairseq-validate /none {plugin} --path {teacher} --max-tokens 800": "data folder /none does not exist; give a ",
    "fairseq-train {docs} {train}": "{docs} has no dict.*.txt; give a folder that fairseq-preprocess wrote",
    # other languages
    "fairseq-train {data} {train} --target-lang fr --source-lang en": "{data} has no dict.fr.txt; its languages are "
    "de and en; choose from them with --source-lang and --target-lang",
    "fairseq-generate {data} {plugin} --path {teacher} -t fr -s en": "{data} has no dict.fr.txt; its languages are",
    "fairseq-train {three} {train} -s en -t fr": "{three} has no valid.en-fr; its text is en-de: give its "
    "languages as --source-lang and --target-lang",
    # missing subsets
    "fairseq-generate {two} {plugin} --path {teacher}": "{two} has no test.en-de; it has train, valid: choose with "
    "--gen-subset, --valid-subset or --train-subset, or binarise test too",
    "fairseq-train {data} {train} --valid-subset dev": "{data} has no dev.en-de; it has test, train, valid: choose",
    "fairseq-validate {two} {plugin} --path {teacher} --valid-subset test --max-tokens 800": "{two} has no "
    "test.en-de; it has train, valid: choose",
    # missing checkpoints and models
    "fairseq-train {data} {plugin} --max-tokens 800": "no architecture given; name one with --arch, such as --arch tra",
    "fairseq-generate {data} {plugin}": "no checkpoint given; name one with --path, such as --path checkpoints/",
    "fairseq-interactive {data} {plugin}": "no checkpoint given; name one with --path, such as --path checkpoints/",
    "fairseq-validate {data} {plugin} --max-tokens 800": "no checkpoint given; name one with --path, such as --path ch",
    "fairseq-generate {data} {plugin} --path /none.pt": "checkpoint /none.pt does not exist; give the path of a file "
    "written by fairseq-train",
    # workers
    "fairseq-train {data} {train} --criterion word_kd --teacher-path {teacher} --ddp-backend fully_sharded": "--ddp-bac"
    "kend fully_sharded divides the output layer among workers, but the criterions of nmt_kd need all of it; give",
    # other tasks
    "fairseq-train {data} {train} --criterion word_kd --teacher-cache none --task translation_multi_simple_epoch "
    "--lang-pairs en-de --langs en,de": "word_kd cannot train with TranslationMultiSimpleEpochTask, which may have sev",
    # the other commands
    "nmt-kd agreement {teacher} {teacher} /none": "data folder /none does not exist; give a folder that fairseq-pre",
    "nmt-kd agreement {teacher} {teacher} {two}": "{two} has no test.en-de; it has train, valid: choose",
    "nmt-kd agreement /none {teacher} {data}": "checkpoint /none does not exist; give the path of a file written by",
    "nmt-kd cache /none --teacher-path {teacher} out": "data folder /none does not exist; give a folder that fairseq-p",
    "nmt-kd cache {data} --teacher-path /none out": "checkpoint /none does not exist; give the path of a file written",
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: re.sub("[^a-z-]+", "_", command))
def test_wrong_input_is_named_with_what_to_do(command, known, monkeypatch):
    program, *arguments = command.format(**known).split()
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    monkeypatch.setattr(validate, "reset_logging", lambda: None)  # it would remove pytest's handlers
    with pytest.raises(UserError) as error:
        PROGRAMS[program]()
    assert str(error.value).startswith(COMMANDS[command].format(**known))
    assert "\n" not in str(error.value)


def test_the_line_is_all_that_a_user_sees_of_the_error():
    result = run_command(BIN / "fairseq-train", "/none", *PLUGIN, *TINY_TRANSFORMER, *TRAINING)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("nmt_kd: error: data folder /none does not exist; give a folder")
    assert "Traceback" not in result.stdout + result.stderr


def test_wrong_input_that_a_training_step_finds_leaves_no_crash_checkpoint(data, teacher_path, tmp_path):
    architecture = [*TINY_TRANSFORMER, "--arch", "cmlm_transformer"]
    flags = ["--criterion", "word_kd", "--teacher-path", teacher_path, "--max-update", "1"]
    with pytest.raises(UserError, match=r"^NATransformerDecoder does not predict word by word"):
        train_here(data, tmp_path, *flags, architecture=architecture)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_half_precision_without_a_gpu_says_which_flags_work(data, tmp_path):
    settings = ["--criterion", "cross_entropy", "--max-update", "1"]
    with pytest.raises(UserError) as error:
        train_here(data, tmp_path / "refused", *settings, "--fp16")
    message = str(error.value)
    assert message.startswith("--fp16 needs a GPU, and torch sees none; leave it out, or on the CPU use")
    flags = re.findall(r"--[\w-]+", message.partition("use ")[2])
    assert flags == ["--memory-efficient-fp16", "--fp16", "--fp16-no-flatten-grads"]
    for number, working in enumerate((flags[:1], flags[1:])):
        train_here(data, tmp_path / str(number), *settings, *working)
