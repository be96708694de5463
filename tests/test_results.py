"""The tables of results in the documents show the figures that their scripts have stored."""

import json
import re
import statistics

import benchmark_growth
import comparison
import pytest
from conftest import ROOT
from doc_pages import TEXTS

from nmt_kd.evaluation.audit_report import as_table, from_dict
from nmt_kd.evaluation.tables import as_markdown


def stored(name: str) -> dict[str, dict]:
    """The rows of a table that scripts/comparison.py has stored, by system."""
    return {row["system"]: row for row in json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))}


TABLES = {name: stored(f"{name}.json") for name in ("comparison", "dropout", "longer", "ensemble")}
STORED, LONGER = TABLES["comparison"], TABLES["longer"]
README_ROWS = re.findall(
    r"^\| [^|]* \| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", TEXTS["README.md"], re.MULTILINE
)


@pytest.mark.parametrize("name", ["comparison", "longer", "ensemble"])
def test_the_tables_of_systems_are_those_of_the_stored_figures(name):
    assert as_markdown(comparison.table(list(TABLES[name].values()))) in TEXTS["docs/results.md"]


@pytest.mark.parametrize("name", ["dropout", "longer", "ensemble"])
def test_a_system_has_the_same_scores_in_all_tables(name):
    shared = STORED.keys() & TABLES[name].keys()
    assert shared
    assert {system: TABLES[name][system]["scores"] for system in shared} == {
        system: STORED[system]["scores"] for system in shared
    }


def test_the_table_of_longer_trainings_compares_equal_numbers_of_updates():
    assert {row["updates"] for system, row in LONGER.items() if system != "teacher"} == {6000}


def test_the_readme_shows_a_teacher_and_four_students():
    assert len(README_ROWS) == 5


@pytest.mark.parametrize("row", README_ROWS, ids=[name for name, *_ in README_ROWS])
def test_the_readmes_figures_are_the_stored_ones(row):
    name, parameters, bleu, chrf, cost = row
    found = STORED[name]
    assert parameters == f"{found['parameters']:,}"
    assert bleu == comparison.mean_and_deviation(found["scores"]["BLEU"])
    assert chrf == comparison.mean_and_deviation(found["scores"]["chrF"])
    assert cost == ("-" if found["cost"] is None else f"{found['cost']:.2f}")


def test_the_readme_has_the_stored_figures_of_longer_trainings():
    names = ("plain_thrice", "recommended_mix_thrice")
    plain, recommended = (statistics.mean(LONGER[name]["scores"]["BLEU"]) for name in names)
    share = recommended / statistics.mean(STORED["teacher"]["scores"]["BLEU"])
    text = " ".join(TEXTS["README.md"].split())
    assert f"After 6,000 updates, `plain` has {plain:.1f} BLEU" in text
    assert f" has {recommended:.1f}, {share:.0%}".replace("%", " %") + " of the teacher's" in text


def cell(system: str) -> str:
    """BLEU and chrF of a system, as a cell of a table."""
    found = {**TABLES["dropout"], **LONGER, **STORED}[system]
    return " / ".join(comparison.mean_and_deviation(found["scores"][name]) for name in ("BLEU", "chrF"))


@pytest.mark.parametrize(
    ("system", "updates"),
    [
        ("plain", 2000),
        ("seq_kd", 2000),
        ("seq_kd_base", 2000),
        ("seq_kd_base_bt", 2000),
        ("seq_kd_base_twice", 4000),
        ("seq_kd_base_bt_thrice", 6000),
    ],
)
def test_the_table_of_mixed_corpora_has_the_stored_figures(system, updates):
    cells = [f"{updates:,}", cell(system), cell(f"{system}_no_dropout")]
    row = rf"^\| [^|]*\(`{system}`\) \| [\d,]+ \| {' [|] '.join(map(re.escape, cells))} \|$"
    assert re.search(row, TEXTS["docs/results.md"], re.MULTILINE)


def test_every_stored_figure_belongs_to_a_system_of_an_experiment():
    files = [ROOT / f"configs/experiments/{name}.sh" for name in (*TABLES, "recommended")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    for rows in TABLES.values():
        assert rows.keys() <= set(re.findall(r"system (\w+) ", text))
        assert all(statistics.mean(row["scores"]["BLEU"]) > 0 for row in rows.values())


def test_the_table_of_large_data_sets_is_that_of_the_stored_figures():
    figures = benchmark_growth.read(ROOT / "docs/growth.json")
    assert as_markdown(benchmark_growth.table(figures)) in TEXTS["docs/costs.md"]


def test_the_table_of_side_effects_is_that_of_the_stored_audit():
    audit = json.loads((ROOT / "docs/audit.json").read_text(encoding="utf-8"))
    assert audit["baseline"] == "plain"
    assert set(audit["systems"]) <= set(STORED) | {"seq_kd_noise"}
    assert as_markdown(as_table(from_dict(audit["systems"]))) in TEXTS["docs/results.md"]
