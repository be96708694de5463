import base64
import re
import shutil

import pytest
from recorded_runs import perfect, report, rows_of, with_setting, worse

from nmt_kd.errors import UserError
from nmt_kd.evaluation.drawing import system_styles
from nmt_kd.evaluation.runs import Run
from nmt_kd.evaluation.systems import systems_of

pytest_plugins = ["recorded_runs"]


def test_runs_that_differ_only_in_their_seeds_form_one_system(folders):
    systems = systems_of(Run(folder) for folder in folders)
    assert [(system.name, len(system.runs)) for system in systems] == [("plain", 1), ("word_kd", 2)]


def test_runs_on_different_corpora_are_different_systems(variation):
    settings = {"plain": "'/here/data-bin'", "seq_kd": "'/here/data-bin-kd'", "plain.seed2": "'/there/data-bin'"}
    runs = [Run(variation(name, log=with_setting("data", data))) for name, data in settings.items()]
    assert [[run.name for run in system.runs] for system in systems_of(runs)] == [["plain", "plain.seed2"], ["seq_kd"]]


def test_two_systems_of_one_name_are_refused(variation):
    one, other = variation("word_kd"), variation("word_kd", "elsewhere/tiny", log=with_setting("kd_alpha", "0.7"))
    with pytest.raises(UserError, match=f"{one} and {other} have different settings and the same name; rename one"):
        systems_of([Run(one), Run(other)])


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
    page = report(folders, out, drawn=True)
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


def test_systems_with_another_number_of_runs_are_named_as_not_tested(folders, tmp_path):
    note = "Not tested, because the number of runs is not that of plain: word_kd."
    assert note in report(folders, tmp_path / "report")
    assert "Not tested" not in report(folders[:2], tmp_path / "report")


def test_two_data_sets_become_columns_of_one_table(variation, tmp_path):
    folders = [variation("plain"), variation("plain", data_set="other"), variation("teacher", data_set="other")]
    folders[2].joinpath("train.log").write_text(with_setting("kd_alpha", "0.9")((folders[2] / "train.log").read_text()))
    page = report(folders, tmp_path / "report")
    assert "<th>tiny: BLEU</th><th>tiny: difference</th>" in page
    assert "<th>other: chrF</th>" in page
    assert f"<tr><th>teacher</th>{'<td>-</td>' * 4}<td>" in page
    assert (tmp_path / "report/other_trade_off.png").exists()


def test_a_run_that_is_not_evaluated_yet_still_has_curves_and_costs(folders, tmp_path):
    for name in ("translations.txt", "translations.txt.log", "agreement.json"):
        (folders[0] / name).unlink()
    page = report(folders[:2], tmp_path / "report")
    results, costs = page.split("<table>")[1:3]
    assert "<tr><th>plain</th><td>-</td><td>-</td></tr>" in results
    assert re.search(r"<tr><th>plain</th><td>1</td>(<td>[\d.,]+</td>){5}<td>-</td><td>-</td></tr>", costs)
    assert "relative to plain" not in page


def test_the_baseline_can_be_chosen(folders, tmp_path):
    page = report(folders[:2], tmp_path / "report", "--baseline", "word_kd")
    assert "Differences and significance are relative to word_kd" in page
    with pytest.raises(UserError, match=r"^unknown baseline 'none'; choose from plain, word_kd$"):
        report(folders, tmp_path / "report", "--baseline", "none")


def test_without_matplotlib_the_error_says_how_to_install_it(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"plots need matplotlib; pip install 'nmt-kd\[report\]'"):
        report(folders, tmp_path / "report")


# -- several test sets ------------------------------------------------------------------------------------------------


def test_each_test_set_has_its_own_results_with_significance(folders, tmp_path):
    for folder, rewrite in zip(folders[:2], (worse, perfect), strict=True):
        (folder / "translations.web.txt").write_text(rewrite((folder / "translations.txt").read_text()))
    (folders[1] / "agreement.web.json").write_text('{"teacher_agreement": 38.25}')
    page = report(folders[:2], tmp_path / "report")
    assert re.findall(r"<h2>(.*?)</h2>", page)[:5] == [
        *("Results", "Results, web", "Size, time and agreement"),
        *("Translations side by side, tiny", "Translations side by side, tiny, web"),
    ]
    assert rows_of(page, 1)["word_kd"][0] == "100.00 **"
    assert "<th>agreement with the teacher, %, web</th>" in page
    assert [cells[-2:] for cells in rows_of(page, 2).values()] == [["41.5", "-"], ["41.5", "38.2"]]


def test_a_system_that_lacks_a_test_set_has_a_dash(folders, tmp_path):
    shutil.copy(folders[0] / "translations.txt", folders[0] / "translations.web.txt")
    page = report(folders[:2], tmp_path / "report")
    assert rows_of(page, 1)["word_kd"] == ["-"] * 4
    assert rows_of(page, 1)["plain"][0] != "-"


# -- translations -----------------------------------------------------------------------------------------------------


def test_translations_are_shown_side_by_side_in_both_formats(folders, variation, tmp_path):
    teacher = variation("teacher", log=with_setting("kd_alpha", "0.9"), translations=perfect)
    page = report([teacher, *folders], tmp_path / "report")
    reference = re.search(r"^T-\d+\t(.*)$", (teacher / "translations.txt").read_text(), re.MULTILINE)[1]
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert re.findall(r"<summary>(.*?)</summary>", page) == ["word_kd"]
    assert re.findall(r"<h3>(.*?)</h3>", page) == ["Worst", "Largest gains over plain"]
    (first, *_) = re.findall(r'<dl class="example">.*?</dl>', page, re.DOTALL)
    assert re.findall(r"<dt.*?>([^,<]*)", first) == ["source", "reference", "teacher", "plain", "word_kd"]
    assert reference.split()[0] in page
    assert re.search(r"^- teacher, 100\.0: ", markdown, re.MULTILINE)
    assert re.search(r"^- plain, [\d.]+: ", markdown, re.MULTILINE)
    assert "### word\\_kd\n\n#### Worst\n" in markdown
    for picture in re.findall(r"\]\((.*?)\)$", markdown, re.MULTILINE):
        assert (tmp_path / "report" / picture).is_file()


def test_colours_stay_the_same_from_report_to_report(folders, tmp_path):
    def colours(name: str, chosen) -> set[str]:
        page = report(chosen, tmp_path / name, drawn=True)
        pictures = re.findall(r'<img [^>]*src="data:image/svg\+xml;base64,([^"]*)"', page)
        return set(re.findall(r"stroke: (#\w{6})", "".join(base64.b64decode(each).decode() for each in pictures)))

    alone, both = colours("alone", folders[1:]), colours("both", folders)
    word_kd = system_styles(["word_kd"])["word_kd"]["color"]
    assert word_kd in alone & both
    assert system_styles(["plain"])["plain"]["color"] in both - alone
