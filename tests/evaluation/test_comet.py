"""COMET's own loading and scoring, with a tiny untrained model that is built on the spot."""

import json
import sys
from pathlib import Path

import pytest
from comet_models import tiny_comet
from conftest import run_command

from nmt_kd.cli import main
from nmt_kd.errors import UserError
from nmt_kd.evaluation.comet import comet_metrics, load_comet

comet = pytest.importorskip("comet")
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return tiny_comet(tmp_path_factory.mktemp("comet"), "tiny", needs_references=True)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("texts")
    lines = {
        "sources": ["the dog runs fast .", "two dogs run .", "one dog ."],
        "references": ["ein Hund läuft schnell .", "zwei Hunde laufen .", "ein Hund ."],
        "plain": ["ein Hund laufen .", "zwei Hund .", "zwei"],
        "word_kd": ["ein Hund läuft schnell .", "zwei Hunde läuft .", "ein Hund ."],
    }
    for name, content in lines.items():
        (folder / name).write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    return {name: folder / name for name in lines}


def test_scores_match_comets_command_line(model_folder, texts, tmp_path, capsys):
    command = ["score", "--references", texts["references"], "--sources", texts["sources"], "--metrics", "comet"]
    command += ["--systems", f"plain={texts['plain']}", f"word_kd={texts['word_kd']}", "--baseline", "plain"]
    command += ["--comet-models", model_folder, "--format", "json"]
    main([str(part) for part in command])
    ours = json.loads(capsys.readouterr().out)
    checkpoint = model_folder / "checkpoints/model.ckpt"
    theirs = run_command(
        *(BIN / "comet-score", "-s", texts["sources"], "-r", texts["references"], "--gpus", "0", "--quiet"),
        *("-t", texts["plain"], texts["word_kd"], "--model", checkpoint, "--to_json", tmp_path / "scores.json"),
        environment={"HF_HUB_OFFLINE": "1"},
    )
    assert theirs.returncode == 0, theirs.stderr
    segments = json.loads((tmp_path / "scores.json").read_text())
    assert [row["metric"] for row in ours] == ["COMET tiny"] * 2
    for row, path in zip(ours, (texts["plain"], texts["word_kd"]), strict=True):
        expected = [segment["COMET"] for segment in segments[str(path)]]
        assert row["mean"] == pytest.approx(sum(expected) / len(expected), abs=1e-6)
    assert ours[0]["mean"] != ours[1]["mean"]
    assert 0 < ours[1]["bootstrap_p"] <= 1
    assert 0 < ours[1]["randomisation_p"] <= 1


def test_models_of_the_same_name_are_told_apart_by_their_folders(model_folder):
    twice = [str(model_folder), str(model_folder.parent / "other" / "tiny")]
    Path(twice[1]).parent.mkdir()
    Path(twice[1]).symlink_to(model_folder)
    assert list(comet_metrics(twice, ["a"], ["b"])) == [f"COMET {name}" for name in twice]


def test_a_failed_download_says_which_files_to_get_and_where(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as error:
        load_comet("Unbabel/none-such-model")
    message = str(error.value)
    assert message.startswith("cannot download the COMET model Unbabel/none-such-model (")
    assert (
        "download hparams.yaml and checkpoints/model.ckpt from https://huggingface.co/Unbabel/none-such-model"
        in message
    )


def test_a_path_that_is_not_a_model_is_refused(tmp_path, model_folder):
    with pytest.raises(UserError, match=r"COMET model .*none does not exist; give a folder with hparams.yaml and"):
        load_comet(str(tmp_path / "none"))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/model.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"has no hparams\.yaml; put the model's there, next to checkpoints/"):
        load_comet(str(tmp_path))


def test_without_comet_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "comet", None)
    with pytest.raises(UserError, match=r"COMET is not installed; pip install 'nmt-kd\[comet\]'"):
        load_comet("Unbabel/wmt20-comet-da")
