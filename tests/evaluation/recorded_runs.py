"""Fixtures: a real run, in a folder as scripts/train.sh and scripts/evaluate.sh write it, and variations of it."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY_TRANSFORMER, TRAINING, run_command

from nmt_kd.cli import main

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


def without_records(*kinds: str):
    """Return a function that removes the statistics of some kinds from a log."""
    return lambda log: re.sub(rf"^.*\| ({'|'.join(kinds)}) \| {{.*\n", "", log, flags=re.MULTILINE)


def with_setting(name: str, value: str):
    """Return a function that changes a setting in a log."""
    return lambda log: re.sub(rf"'{name}': [^,}}]+", f"'{name}': {value}", log)


def perfect(translations: str) -> str:
    """Replace every hypothesis by the reference."""
    references = dict(re.findall(r"^T-(\d+)\t(.*)$", translations, re.MULTILINE))
    return re.sub(r"^D-(\d+)\t(.*)\t.*$", lambda d: f"D-{d[1]}\t{d[2]}\t{references[d[1]]}", translations, flags=re.M)


def worse(translations: str) -> str:
    """Replace every hypothesis by the reference without its last word."""
    return re.sub(r"^(D-\d+\t.*) \S+$", r"\1", perfect(translations), flags=re.MULTILINE)


@pytest.fixture
def folders(variation):
    return [
        variation("plain", log=with_setting("kd_alpha", "0.0"), translations=worse),
        variation("word_kd", translations=perfect),
        variation("word_kd.seed2", log=with_setting("seed", "2"), translations=worse),
    ]


def report(folders, out, *flags, drawn=False) -> str:
    """Write a report and return its page; unless `drawn`, the figures are made, but their images are empty."""
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setattr("nmt_kd.evaluation.report.as_png", lambda figure: b"")
            patch.setattr("nmt_kd.evaluation.report_html.as_svg", lambda figure: b"")
        main(["report", *(str(folder) for folder in folders), "--output", str(out), *flags])
    return (out / "index.html").read_text(encoding="utf-8")


def rows_of(page: str, table: int) -> dict[str, list[str]]:
    """The cells of a table of the page, by the heading of the row."""
    text = re.findall(r"<tbody>.*?</tbody>", page, re.DOTALL)[table]
    return {name: re.findall(r"<td>(.*?)</td>", row) for name, row in re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", text)}
