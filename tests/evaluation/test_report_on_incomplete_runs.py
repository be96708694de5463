"""A run whose log, translations or agreement are missing or damaged keeps its row, and a note says what is wrong."""

import re

import pytest
from recorded_runs import report, rows_of, with_setting, without_records

pytest_plugins = ["recorded_runs"]


def before_training(log: str) -> str:
    return log.partition("num. shared model params")[0]


def before_anything(log: str) -> str:
    return "Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    ("damage", "note", "dashes"),
    [
        (without_records("train_inner", "train"), "has no training statistics; train with --log-format json", 3),
        (without_records("train_inner", "train", "valid"), "has no training statistics", 4),
        (before_training, "does not contain the number of parameters; save the complete output", 5),
        (before_anything, "does not contain fairseq-train&#x27;s settings; save the complete output", 7),
    ],
)
def test_a_run_with_too_short_a_log_has_a_row_and_a_note(folders, variation, tmp_path, damage, note, dashes):
    short = variation("short", log=lambda log: damage(with_setting("kd_alpha", "0.3")(log)))
    page = report([*folders, short], tmp_path / "report")
    costs = rows_of(page, 1)
    assert list(costs) == ["plain", "word_kd", "short"]
    assert costs["short"].count("-") == dashes
    assert costs["plain"].count("-") == 0
    assert re.search(rf'<p class="note">[^<]*short/train\.log {note}', page)
    assert rows_of(page, 0)["plain"][0] != "-"


def test_a_run_shorter_than_the_log_interval_has_costs_and_curves(folders, variation, tmp_path):
    damage = without_records("train_inner")
    short = variation("short", log=lambda log: damage(with_setting("kd_alpha", "0.3")(log)))
    page = report([*folders, short], tmp_path / "report")
    assert rows_of(page, 1)["short"].count("-") == 0
    assert "train.log has no" not in page


def test_a_run_that_diverged_does_not_abort_the_report(folders, variation, tmp_path):
    diverged = variation(
        "diverged", log=lambda log: re.sub(r'"valid_nll_loss": "[^"]+"', '"valid_nll_loss": "nan"', log)
    )
    assert "curve_nll_loss" in {path.stem for path in _reported([diverged], tmp_path / "alone")}
    assert "curve_nll_loss" in {path.stem for path in _reported([*folders, diverged], tmp_path / "report")}


def _reported(folders, out) -> list:
    report(folders, out)
    return list(out.glob("*.png"))


def test_a_system_with_damaged_translations_has_a_dash_and_a_note(folders, tmp_path):
    generated = folders[0] / "translations.txt"
    generated.write_text(re.sub(r"^[A-Z]-3\t.*\n", "", generated.read_text(), flags=re.MULTILINE))
    page = report(folders[:2], tmp_path / "report")
    assert rows_of(page, 0)["plain"] == ["-", "-"]
    assert re.search(r'<p class="note">[^<]*plain/translations\.txt lacks 1 of 13 sentences', page)


def test_a_system_with_a_shorter_test_set_has_a_dash_and_a_note(folders, tmp_path):
    generated = folders[0] / "translations.txt"
    generated.write_text(re.sub(r"^[A-Z]-12\t.*\n", "", generated.read_text(), flags=re.MULTILINE))
    page = report(folders[:2], tmp_path / "report")
    assert rows_of(page, 0)["plain"] == ["-", "-"]
    assert "plain has translated 12 sentences of test, but other systems 13; its scores are left out" in page


def test_systems_without_a_teacher_have_a_dash_instead_of_an_agreement(folders, tmp_path):
    (folders[0] / "agreement.json").unlink()
    page = report(folders[:2], tmp_path / "report")
    assert [cells[-1] for cells in rows_of(page, 1).values()] == ["-", "41.5"]
    (folders[1] / "agreement.json").unlink()
    page = report(folders[:2], tmp_path / "report")
    assert [cells[-1] for cells in rows_of(page, 1).values()] == ["-", "-"]
