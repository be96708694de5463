"""scripts/comparison.py pools test sets and seeds, and counts all that a system cost."""

import json
import random
import subprocess
import sys
from pathlib import Path

import comparison
import pytest
from conftest import ROOT
from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.errors import UserError
from nmt_kd.evaluation.runs import Point
from nmt_kd.evaluation.scores import score_systems

SENTENCES = 40
WORDS = "der die das Hund Katze läuft schnell , . auf dem Dach".split()
chance = random.Random(1)
REFERENCES = [" ".join(chance.choices(WORDS, k=chance.randint(5, 12))) for _ in range(SENTENCES)]


def damaged(share: float, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(w for w in line.split() if chance.random() >= share) or "der" for line in REFERENCES]


def write_run(folder: Path, lines: list[str], losses: list[float], seconds: float, peak_mb: float = 500.4) -> None:
    """Write what training and evaluation leave behind: two test sets with half of the lines each."""
    (folder / "records").mkdir(parents=True)
    prefix = "2026-01-01 00:00:00 | INFO |"
    log = [
        f"{prefix} fairseq_cli.train | {{'_name': None, 'common': {{'seed': 1}}}}",
        "num. shared model params: 1,000",
    ]
    log += [f"{prefix} fairseq.tasks.translation | [{language}] dictionary: 100 types" for language in ("en", "de")]
    log.append(f'{prefix} train_inner | {{"num_updates": "{100 * len(losses) or 400}", "wps": "9", "wpb": "9"}}')
    for number, loss in enumerate(losses, 1):
        record = {"valid_loss": str(loss), "valid_num_updates": str(100 * number)}
        log.append(f"{prefix} valid | {json.dumps(record)}")
    (folder / "train.log").write_text("\n".join(log) + "\n", encoding="utf-8")
    half = SENTENCES // 2
    for name, of in (("", slice(half)), (".second", slice(half, None))):
        pairs = enumerate(zip(REFERENCES[of], lines[of], strict=True))
        text = "".join(f"S-{n}\ta\nT-{n}\t{ref}\nH-{n}\t-1\t{line}\nD-{n}\t-1\t{line}\n" for n, (ref, line) in pairs)
        (folder / f"translations{name}.txt").write_text(text, encoding="utf-8")
        tokens = 100 if name == "" else 300
        figures = {"teacher_agreement": 50.0 + tokens, "student_calibration_error": 4.0, "tokens": tokens}
        (folder / f"agreement{name}.json").write_text(json.dumps(figures))
    (folder / "records/cost.json").write_text(json.dumps({"seconds": 1, "cpu_seconds": seconds, "peak_mb": peak_mb}))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("runs")
    write_run(work / "plain", damaged(0.4, 1), [9, 8, 7, 6], 100)
    write_run(work / "plain.seed2", damaged(0.4, 2), [9, 8, 7, 6], 100)
    write_run(work / "word_kd", damaged(0.1, 3), [8, 6, 5, 4], 70)
    write_run(work / "word_kd.seed2", damaged(0.1, 4), [8, 6, 5, 4], 70, peak_mb=700.4)
    write_run(work / "seq_kd", damaged(0.4, 5), [9, 8.5, 8.2, 8.1], 100)
    (work / "store.json").write_text(json.dumps({"cpu_seconds": 20}))
    (work / "word_kd/records/paid").write_text(f"{work / 'store.json'}\n")
    (work / "word_kd.seed2/records/paid").write_text(f"{work / 'store.json'}\n{work / 'store.json'}\n")
    (work / "not_evaluated").mkdir()
    return work


@pytest.fixture(scope="module")
def rows(work):
    found = comparison.compare(work, ["plain", "word_kd", "seq_kd", "not_evaluated"], ["plain", "word_kd"])
    return {row["system"]: row for row in found}


def test_scores_are_those_of_all_test_sets_for_each_seed(rows):
    assert list(rows) == ["plain", "word_kd", "seq_kd"]
    assert rows["plain"]["runs"] == 2
    expected = [BLEU().corpus_score(damaged(0.4, seed), [REFERENCES]).score for seed in (1, 2)]
    assert rows["plain"]["scores"]["BLEU"] == pytest.approx(expected)


def test_differences_are_tested_over_as_many_runs_as_both_systems_have(rows):
    runs = {"plain": [damaged(0.4, 1), damaged(0.4, 2)], "word_kd": [damaged(0.1, 3), damaged(0.1, 4)]}
    runs["seq_kd"] = [damaged(0.4, 5)]

    def p(system, baseline, count):
        systems = {name: runs[name][:count] for name in (baseline, system)}
        metrics = {"BLEU": BLEU(references=[REFERENCES]), "chrF": CHRF(references=[REFERENCES])}
        found = score_systems(systems, metrics, baseline, comparison.TRIALS, comparison.TRIALS)
        return {s.metric: max(s.bootstrap_p, s.randomisation_p) for s in found if s.system == system}

    assert rows["word_kd"]["p"]["plain"] == p("word_kd", "plain", 2)
    assert rows["plain"]["p"]["word_kd"] == p("plain", "word_kd", 2)
    assert rows["seq_kd"]["p"]["plain"] == p("seq_kd", "plain", 1)
    assert rows["seq_kd"]["p"]["word_kd"] == p("seq_kd", "word_kd", 1)
    assert "plain" not in rows["plain"]["p"]


def test_the_memory_is_the_mean_over_the_seeds(rows):
    assert rows["plain"]["memory_mb"] == 500.4
    assert rows["word_kd"]["memory_mb"] == pytest.approx(600.4)


def test_costs_include_stores_once_and_are_relative_to_the_baseline(rows):
    assert rows["plain"]["cost"] == 1
    assert rows["word_kd"]["cost"] == pytest.approx(0.9)


def test_a_baselines_cost_includes_its_own_store(work):
    found = {row["system"]: row for row in comparison.compare(work, ["plain", "word_kd"], ["word_kd"])}
    assert found["word_kd"]["cost"] == 1
    assert found["plain"]["cost"] == pytest.approx(100 / 90)


@pytest.mark.parametrize("missing", ["store.json", "plain/records/cost.json"])
def test_costs_that_were_not_recorded_are_dashes(tmp_path, missing):
    for name in ("plain", "word_kd"):
        write_run(tmp_path / name, REFERENCES, [9, 8], 100)
    (tmp_path / "store.json").write_text(json.dumps({"cpu_seconds": 20}))
    (tmp_path / "word_kd/records/paid").write_text(f"{tmp_path / 'store.json'}\n")
    (tmp_path / missing).unlink()
    found = {row["system"]: row for row in comparison.compare(tmp_path, ["plain", "word_kd"], ["plain"])}
    assert found["word_kd"]["cost"] is found["word_kd"]["memory_mb"] is None
    assert comparison.table(list(found.values())).rows[1][-3:] == ["-", "-", "-"]


def test_the_time_to_the_baselines_loss_counts_training_until_then_and_all_stores(rows):
    assert rows["plain"]["time_to_baseline"] == 1
    assert rows["word_kd"]["time_to_baseline"] == pytest.approx((0.5 * 70 + 20) / 100)
    assert rows["seq_kd"]["time_to_baseline"] is None


def test_every_run_must_reach_the_highest_final_loss_of_the_baselines_runs(tmp_path):
    losses = {"plain": [9, 6], "plain.seed2": [9, 7], "slow": [8, 7], "slow.seed2": [8, 6], "never": [8, 6]}
    for name, found in {**losses, "never.seed2": [8, 7.5]}.items():
        write_run(tmp_path / name, REFERENCES, found, 100)
    found = {row["system"]: row for row in comparison.compare(tmp_path, ["plain", "slow", "never"], ["plain"])}
    of_plain = (100 * (1 / 2 + 1 / 2 * 2 / 3) + 100) / 2
    of_slow = (100 + 100 * (1 / 2 + 1 / 2 * 1 / 2)) / 2
    assert found["plain"]["time_to_baseline"] == 1
    assert found["slow"]["time_to_baseline"] == pytest.approx(of_slow / of_plain)
    assert found["never"]["time_to_baseline"] is None


def test_agreement_is_the_mean_over_the_tokens_of_all_test_sets(rows):
    assert rows["plain"]["agreement"] == pytest.approx(50 + (100 * 100 + 300 * 300) / 400)
    assert rows["plain"]["calibration_error"] == pytest.approx(4)


@pytest.mark.parametrize("without", ["plain", "word_kd"])
def test_a_run_without_validation_has_costs_but_no_time_to_a_loss(tmp_path, without):
    for name in ("plain", "word_kd"):
        write_run(tmp_path / name, REFERENCES, [] if name == without else [9, 8], 100)
    found = {row["system"]: row for row in comparison.compare(tmp_path, ["plain", "word_kd"], ["plain"])}
    assert found["word_kd"]["cost"] == 1
    assert found["word_kd"]["time_to_baseline"] is None


@pytest.mark.parametrize(
    ("losses", "wanted", "share"),
    [
        ([9, 8, 7, 6], 7, 0.75),
        ([9, 8, 7, 6], 7.5, 0.625),
        ([9, 5, 7, 6], 7, 0.375),  # reached for the first time between the first two
        ([6, 5], 7, 0.5),  # at the first point, or before
        ([9, 8], 7, None),
        ([], 7, None),
    ],
)
def test_the_share_of_the_updates_until_a_loss(losses, wanted, share):
    curve = [Point(100 * number, 0.0, loss) for number, loss in enumerate(losses, 1)]
    assert comparison.share_until(curve, wanted) == share


def test_the_table_shows_what_the_stored_figures_say(work, capsys):
    comparison.main([str(work), "plain", "word_kd", "--json", str(work / "stored.json")])
    made = capsys.readouterr().out
    comparison.main(["--from", str(work / "stored.json")])
    assert capsys.readouterr().out == made
    header, _, plain, word_kd = made.strip().splitlines()
    assert header.index("p against plain, BLEU / chrF") < header.index("p against word_kd, BLEU / chrF")
    assert "| 0.90 |" in word_kd
    assert plain.endswith(" 500 |")


def test_a_baseline_without_results_ends_in_one_line(work):
    command = [sys.executable, ROOT / "scripts/comparison.py", work, "seq_kd", "--baselines", "plain"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        "comparison.py: error: the baseline plain is not among the systems; add it, or choose another\n"
    )
    with pytest.raises(UserError, match=f"evaluated is not evaluated yet; run: bash scripts/evaluate.sh {work.name}"):
        comparison.compare(work, ["plain", "not_evaluated"], ["not_evaluated"])


def test_only_a_baseline_that_was_not_named_may_be_missing(work):
    (row,) = comparison.compare(work, ["plain"])
    assert list(row.get("p", {})) == []
    with pytest.raises(UserError, match="the baseline wordkd is not among the systems; add it, or choose another"):
        comparison.compare(work, ["plain", "word_kd"], ["plain", "wordkd"])


def test_a_run_that_is_only_partly_evaluated_is_refused(tmp_path):
    for system in ("plain", "word_kd"):
        write_run(tmp_path / system, REFERENCES, [9, 8], 100)
    (tmp_path / "plain/translations.second.txt").unlink()
    with pytest.raises(UserError, match=r"plain is not evaluated on test set second; rerun scripts/evaluate\.sh"):
        comparison.compare(tmp_path, ["plain", "word_kd"], ["plain"])
