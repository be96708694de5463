"""Fixtures: a real run, in a folder as scripts/train.sh and scripts/evaluate.sh write it, and variations of it."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY_TRANSFORMER, TRAINING, run_command

BIN = Path(sys.executable).parent
PLUGIN = ["--user-dir", ROOT / "nmt_kd"]


@pytest.fixture(scope="session")
def real_run(data, corpus, teacher_path, tmp_path_factory) -> Path:
    """A student trained by word_kd for 20 updates on the data set `tiny`, with its translations."""
    work = tmp_path_factory.mktemp("runs") / "tiny"
    folder = work / "word_kd"
    method = ["--criterion", "word_kd", "--teacher-path", teacher_path, "--max-update", "20", "--log-interval", "2"]
    trained = run_command(
        BIN / "fairseq-train", data, *PLUGIN, *TINY_TRANSFORMER, *TRAINING, *method, "--save-dir", folder
    )
    assert trained.returncode == 0, trained.stderr
    (folder / "train.log").write_text(trained.stdout + trained.stderr, encoding="utf-8")
    search = ["--path", folder / "checkpoint_last.pt", "--beam", "2", "--cpu", "--remove-bpe", "sentencepiece"]
    generated = run_command(BIN / "fairseq-generate", data, *PLUGIN, *search)
    (folder / "translations.txt").write_text(generated.stdout, encoding="utf-8")
    (folder / "translations.txt.log").write_text(generated.stderr, encoding="utf-8")
    (folder / "agreement.json").write_text(json.dumps({"teacher_agreement": 41.5}))
    for checkpoint in folder.glob("*.pt"):
        checkpoint.unlink()
    return folder


@pytest.fixture
def variation(real_run, tmp_path):
    """A function that copies the run under another name and rewrites its log and its translations."""

    def variation(name: str, data_set: str = "tiny", log=None, translations=None) -> Path:
        folder = tmp_path / data_set / name
        shutil.copytree(real_run, folder)
        for file, rewrite in (("train.log", log), ("translations.txt", translations)):
            if rewrite:
                path = folder / file
                path.write_text(rewrite(path.read_text(encoding="utf-8")), encoding="utf-8")
        return folder

    return variation


def with_setting(name: str, value: str):
    """Return a function that changes a setting in a log."""
    return lambda log: re.sub(rf"'{name}': [^,}}]+", f"'{name}': {value}", log)
