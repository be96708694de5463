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

STORED = {row["system"]: row for row in json.loads((ROOT / "docs/comparison.json").read_text(encoding="utf-8"))}
README_ROWS = re.findall(
    r"^\| [^|]* \| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", TEXTS["README.md"], re.MULTILINE
)


def test_the_table_of_methods_is_that_of_the_stored_figures():
    assert as_markdown(comparison.table(list(STORED.values()))) in TEXTS["docs/results.md"]


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


@pytest.mark.parametrize("system", ["plain", "seq_kd", "seq_kd_base", "seq_kd_base_bt"])
def test_the_table_of_mixed_corpora_has_the_stored_figures(system):
    with_dropout, without = (STORED.get(name) for name in (system, f"{system}_no_dropout"))
    cells = [
        " / ".join(comparison.mean_and_deviation(found["scores"][name]) for name in ("BLEU", "chrF")) if found else "-"
        for found in (with_dropout, without)
    ]
    row = rf"^\| [^|]*\(`{system}`\) \| [\d,]+ \| {re.escape(cells[0])} \| {re.escape(cells[1])} \|$"
    assert re.search(row, TEXTS["docs/results.md"], re.MULTILINE)


def test_every_stored_figure_belongs_to_a_system_of_the_experiment():
    files = [ROOT / f"configs/experiments/{name}.sh" for name in ("comparison", "recommended", "dropout")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    assert set(STORED) <= set(re.findall(r"system (\w+) ", text))
    assert all(statistics.mean(row["scores"]["BLEU"]) > 0 for row in STORED.values())


def test_the_table_of_large_data_sets_is_that_of_the_stored_figures():
    figures = benchmark_growth.read(ROOT / "docs/growth.json")
    assert as_markdown(benchmark_growth.table(figures)) in TEXTS["docs/costs.md"]


def test_the_table_of_side_effects_is_that_of_the_stored_audit():
    audit = json.loads((ROOT / "docs/audit.json").read_text(encoding="utf-8"))
    assert audit["baseline"] == "plain"
    assert set(audit["systems"]) <= set(STORED) | {"seq_kd_noise"}
    assert as_markdown(as_table(from_dict(audit["systems"]))) in TEXTS["docs/results.md"]
