import re
import shutil
import subprocess

import pytest
from recorded_runs import with_setting

from nmt_kd.cli import main
from nmt_kd.errors import UserError
from nmt_kd.evaluation.runs import Run
from nmt_kd.evaluation.systems import systems_of

pytest_plugins = ["recorded_runs"]


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


def report(folders, out, *flags) -> str:
    main(["report", *(str(folder) for folder in folders), "--output", str(out), *flags])
    return (out / "index.html").read_text(encoding="utf-8")


def test_runs_that_differ_only_in_their_seeds_form_one_system(folders):
    systems = systems_of(Run(folder) for folder in folders)
    assert [(system.name, len(system.runs)) for system in systems] == [("plain", 1), ("word_kd", 2)]


def test_runs_on_different_corpora_are_different_systems(variation):
    settings = {"plain": "'/here/data-bin'", "seq_kd": "'/here/data-bin-kd'", "plain.seed2": "'/there/data-bin'"}
    runs = [Run(variation(name, log=with_setting("data", data))) for name, data in settings.items()]
    assert [[run.name for run in system.runs] for system in systems_of(runs)] == [["plain", "plain.seed2"], ["seq_kd"]]


def test_folders_that_are_not_runs_are_skipped_and_named(folders, tmp_path, capsys):
    other = folders[0].parent / "data-bin"
    other.mkdir()
    page = report([*folders, other], tmp_path / "report")
    assert "skipped, no train.log: data-bin\n" in capsys.readouterr().out
    assert "<th>plain</th>" in page
    with pytest.raises(UserError, match=r"data-bin has no train\.log; give a folder written by scripts/train\.sh"):
        report([other], tmp_path / "report")


def test_the_page_has_scores_costs_curves_and_settings(folders, tmp_path):
    out = tmp_path / "report"
    page = report(folders, out)
    assert re.search(r"<tr><th>plain</th><td>[\d.]+</td><td></td>", page)
    assert re.search(r"<tr><th>word_kd</th><td>[\d.]+ ± [\d.]+</td><td>[+-][\d.]+</td>", page)
    assert "<th>word_kd</th><td>2</td>" in page
    assert "nrefs:1|case:mixed|eff:no|tok:13a" in page
    assert "Differences and significance are relative to plain" in page
    assert "<tr><th>kd_alpha</th><td>0.0</td><td>0.5</td></tr>" in page
    names = {"curve_nll_loss", "curve_teacher_agreement", "training_losses", "trade_off"}
    assert {path.stem for path in out.glob("*.png")} == names
    assert page.count('<img alt="') == len(names)
    for path in out.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_page_is_self_contained(folders, tmp_path):
    page = report(folders, tmp_path / "report")
    assert set(re.findall(r'(?:src|href)="([^"]{0,10})', page)) == {"data:image"}
    assert "<script" not in page
    assert "@import" not in page


def test_significance_is_tested_if_the_runs_can_be_paired(folders, tmp_path):
    page = report(folders[:2], tmp_path / "report")
    differences = re.search(r"<tr><th>word_kd</th><td>([\d.]+)( \*+)?</td><td>([+-][\d.]+)</td>", page)
    assert differences
    assert differences[2] == " **"
    assert float(differences[3]) > 5


def test_two_data_sets_become_columns_of_one_table(variation, tmp_path):
    folders = [variation("plain"), variation("plain", data_set="other"), variation("teacher", data_set="other")]
    folders[2].joinpath("train.log").write_text(with_setting("kd_alpha", "0.9")((folders[2] / "train.log").read_text()))
    page = report(folders, tmp_path / "report")
    assert "<th>tiny: BLEU</th><th>tiny: difference</th>" in page
    assert "<th>other: chrF</th>" in page
    assert "<tr><th>teacher</th><td></td><td></td><td></td><td></td><td>" in page
    assert (tmp_path / "report/other_trade_off.png").exists()


def test_a_run_that_is_not_evaluated_yet_still_has_curves_and_costs(folders, tmp_path):
    for name in ("translations.txt", "translations.txt.log", "agreement.json"):
        (folders[0] / name).unlink()
    page = report(folders[:2], tmp_path / "report")
    results, costs = page.split("<table>")[1:3]
    assert "<th>plain</th>" not in results
    assert "<th>plain</th>" in costs


def test_the_baseline_can_be_chosen(folders, tmp_path):
    page = report(folders[:2], tmp_path / "report", "--baseline", "word_kd")
    assert "Differences and significance are relative to word_kd" in page
    with pytest.raises(UserError, match=r"^unknown baseline 'none'; choose from plain, word_kd$"):
        report(folders, tmp_path / "report", "--baseline", "none")


def test_without_matplotlib_the_error_says_how_to_install_it(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"plots need matplotlib; pip install 'nmt-kd\[report\]'"):
        report(folders, tmp_path / "report")


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_a_browser_without_a_network_shows_every_picture(folders, tmp_path):
    page = report(folders, tmp_path / "report")
    counting = (
        "<script>onload = () => document.title = 'pictures: ' + "
        "[...document.images].filter(image => image.complete && image.naturalWidth > 100).length</script>"
    )
    copy = tmp_path / "copy.html"
    copy.write_text(page.replace("</body>", f"{counting}</body>"), encoding="utf-8")
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    shown = subprocess.run(
        [*browser, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{copy}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "<title>pictures: 4</title>" in shown.stdout
