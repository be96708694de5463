"""The audit of several systems: what is translated, how figures are compared, and the command."""

import json
import re
import statistics
from types import SimpleNamespace

import pytest
from sacrebleu.metrics import BLEU, CHRF
from translators.teachers import lines, write

from nmt_kd.cli import main
from nmt_kd.decoding.noise import Noise
from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.errors import UserError
from nmt_kd.evaluation.audit_report import as_dict, as_table, compare_audits, from_dict
from nmt_kd.evaluation.audited import AuditedRun, Material, audit_run, spread, translating
from nmt_kd.evaluation.memorisation import is_eligible, normalised, prefixes
from nmt_kd.translators.opening import open_translator
from nmt_kd.translators.search import Search
from nmt_kd.translators.translator import TeacherOptions

# -- parts ------------------------------------------------------------------------------------------------------------


def test_the_sample_is_spread_over_the_pairs_that_have_both_sides():
    pairs = [(str(number), str(-number)) for number in range(10)]
    assert spread(pairs, 4) == [pairs[0], pairs[2], pairs[5], pairs[7]]
    assert spread(pairs, 10) == spread(pairs, 99) == pairs
    assert spread([("", "x"), *pairs[:2], (" ", ""), ("x", "\t")], 99) == pairs[:2]
    with pytest.raises(UserError, match=r"^--sources and --references have no pair of lines that are both not empty"):
        spread([("", "x")], 3)


class Shouter:
    """A translator that writes upper case, cannot read more than three words, and notes what it was asked."""

    longest_source = 3

    def __init__(self):
        self.asked = []

    def length(self, source):
        return len(source.split())

    def translate(self, sources, seed):
        self.asked += sources
        return [[Hypothesis(0.0, text.upper())] if text != "nothing" else [] for text in sources]


def test_each_distinct_text_is_translated_once(monkeypatch, caplog):
    monkeypatch.setattr("nmt_kd.evaluation.audited.BLOCK", 2)
    translator = Shouter()
    translate = translating(translator, "plain")
    with caplog.at_level("INFO"):
        assert translate(["b", "a", "b", "", "a b c d", "c", "nothing"]) == ["B", "A", "B", "", "", "C", ""]
    assert translator.asked == ["b", "a", "c", "nothing"]
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "plain: sentences too long to translate, counted as empty translations: 1"
    assert messages[-1].startswith("plain: 4 of 4 sentences, ")
    assert translate(["a", "d", "a b c d"]) == ["A", "D", ""]
    assert translator.asked[4:] == ["d"]


def test_a_run_without_a_test_set_has_only_memorisation():
    found = audit_run(lambda texts: [text.upper() for text in texts], Material([("a", "A"), ("b", "C")], [], [], []))
    assert found == AuditedRun({"exact_match": [True, False], "extractive_memorisation": [False] * 2}, 0, {})


def test_the_loss_is_the_score_without_noise_minus_that_with_it():
    references = ["the dog runs on the roof .", "a cat sleeps here now ."]
    material = Material([("a", "A")], references, references, [references[0], "a cat sleeps"])
    scores = audit_run(list, material).scores
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        assert scores[name] == pytest.approx(100)
        assert scores[f"{name}_noised"] == metric.corpus_score(material.noised_sources, [references]).score < 100
        assert scores[f"{name}_loss"] == scores[name] - scores[f"{name}_noised"]


def run_with(exact: int, extractive: int, eligible: int, of: int = 20, **scores) -> AuditedRun:
    def first(count):
        return [number < count for number in range(of)]

    return AuditedRun({"exact_match": first(exact), "extractive_memorisation": first(extractive)}, eligible, scores)


@pytest.fixture
def systems():
    return {
        "plain": [run_with(4, 1, 4, bleu=30.0), run_with(6, 1, 4, bleu=31.0)],
        "seq_kd": [run_with(14, 2, 5, bleu=33.0), run_with(11, 3, 6, bleu=33.0)],
        "other": [run_with(0, 0, 0, bleu=1.0), run_with(6, 1, 4, bleu=1.0)],
    }


def test_figures_are_means_over_runs_compared_with_the_baseline(systems):
    figures = compare_audits(systems, "plain")["seq_kd"]
    exact = figures["exact_match"]
    assert exact.runs == [70, 55]
    assert (exact.mean, exact.deviation) == (62.5, statistics.stdev([70, 55]))
    assert exact.ratio == 62.5 / 25
    assert exact.p == pytest.approx(2 / 2**5)  # of the second runs, 5 sentences apart; 10 apart in the first
    assert figures["extractive_memorisation"].ratio == 2.5
    assert figures["extractive_share"].runs == [40, 50]
    assert figures["extractive_share"].p is None
    assert figures["bleu"].mean == 33
    assert (figures["bleu"].ratio, figures["bleu"].p) == (None, None)


def test_nothing_to_measure_is_a_dash_and_not_zero(systems):
    figures = compare_audits(systems, "plain")["other"]
    assert figures["extractive_share"].runs == [None, 25]
    assert figures["extractive_share"].mean is None
    nothing = {"plain": [run_with(0, 0, 0)], "seq_kd": [run_with(2, 0, 0)]}
    table = as_table(compare_audits(nothing, "plain"))
    assert table.header[0] == "system"
    assert table.header[-1] == "extractive memorisation, % of eligible exact matches"
    assert table.rows == [["plain", "0.00", "0.00", "-"], ["seq_kd", "10.00", "0.00", "-"]]


def test_the_table_has_the_ratio_and_the_significance_only_with_a_baseline(systems):
    assert [row[1] for row in as_table(compare_audits(systems)).rows] == [
        "25.00 ± 7.07",
        "62.50 ± 10.61",
        "15.00 ± 21.21",
    ]
    compared = as_table(compare_audits(systems, "seq_kd")).rows
    assert [row[1] for row in compared] == ["25.00 ± 7.07 (0.40)", "62.50 ± 10.61", "15.00 ± 21.21 (0.24)"]
    single = {name: runs[:1] for name, runs in systems.items()}
    assert [row[1] for row in as_table(compare_audits(single, "plain")).rows[:2]] == ["20.00", "70.00 ** (3.50)"]


def test_stored_figures_are_read_again(systems):
    audit = compare_audits(systems, "plain")
    assert from_dict(json.loads(json.dumps(as_dict(audit)))) == audit


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command(corpus, data, seq_kd_teacher, teacher_path):
    """The command that audits two systems, one of which knows some training targets."""

    def command(*more, systems=(f"plain={teacher_path}", f"seq_kd={seq_kd_teacher}")):
        models = ["--data", data, "--subword-model", corpus / "pieces/subwords.model", "--max-len", "40"]
        texts = ["--sources", corpus / "text/train.en", "--references", corpus / "text/train.de", "--sentences", "60"]
        return [str(word) for word in ("audit", "--systems", *systems, *models, *texts, *more)]

    return command


@pytest.fixture(scope="module")
def held_out(corpus):
    return ["--test-sources", str(corpus / "text/test.en"), "--test-references", str(corpus / "text/test.de")]


def printed(capsys, *arguments) -> dict:
    main([*arguments, "--format", "json"])
    return json.loads(capsys.readouterr().out)


def test_the_command_finds_what_translating_sentence_by_sentence_finds(
    command, held_out, corpus, data, seq_kd_teacher, tmp_path, capsys
):
    search, model = Search(beam=1, max_len=40), corpus / "pieces/subwords.model"
    translator = open_translator(TeacherOptions(str(seq_kd_teacher), search, str(data), model))

    def alone(text):
        return translator.translate([text], 1)[0][0].text

    sources, targets = (lines(corpus / f"text/train.{language}") for language in ("en", "de"))
    targets[::20] = map(alone, sources[::20])  # every other sentence of the sample is one that the model knows
    known = ["--references", str(write(tmp_path / "known.de", targets))]
    flags = ["--noise-upper-case", "0.5", "--seed", "3", "--baseline", "plain"]
    found = printed(capsys, *command(*held_out, *known, *flags))
    assert (found["training_pairs"], found["test_sentences"], found["baseline"]) == (60, 13, "plain")
    plain, figures = found["systems"]["plain"], found["systems"]["seq_kd"]

    one_sentence = 100 / 60 + 1e-9  # batches differ, and with them the last bits of scores
    assert figures["exact_match"]["runs"] == [pytest.approx(50, abs=one_sentence)]
    assert plain["exact_match"]["runs"] == [0]
    assert figures["exact_match"]["p"] < 1e-7
    assert plain["exact_match"]["p"] is None
    copied = list(zip(sources[::20], targets[::20], strict=True))
    eligible = [(source, normalised(target)) for source, target in copied if is_eligible(source, target)]
    assert eligible
    memorised = [any(normalised(alone(prefix)) == target for prefix in prefixes(source)) for source, target in eligible]
    found_share = pytest.approx(100 * sum(memorised) / 60, abs=one_sentence)
    assert figures["extractive_memorisation"]["runs"] == [found_share]
    (of_sentences,), (of_eligible,) = (figures[f"extractive_{name}"]["runs"] for name in ("memorisation", "share"))
    assert 60 * of_sentences == pytest.approx(len(eligible) * of_eligible, abs=200)

    noise = Noise(noise_upper_case=0.5)
    sources, references = (lines(corpus / f"text/test.{language}") for language in ("en", "de"))
    noised = [noise(text, 3, number) for number, text in enumerate(sources)]
    assert noised != sources
    for name, texts in (("bleu", sources), ("bleu_noised", noised)):
        score = BLEU().corpus_score(list(map(alone, texts)), [references]).score
        assert figures[name]["runs"] == [pytest.approx(score, abs=1)]
    assert figures["bleu_loss"]["mean"] == pytest.approx(figures["bleu"]["mean"] - figures["bleu_noised"]["mean"])


def test_several_runs_and_all_formats(command, teacher_path, seq_kd_teacher, capsys, held_out):
    systems = [f"{name}={path}" for name in ("one", "two") for path in (teacher_path, seq_kd_teacher)]
    main(command(*held_out[:2], "--baseline", "one", "--sentences", "20", systems=systems))
    header, _, one, two, sizes, notes = [line for line in capsys.readouterr().out.splitlines() if line]
    assert re.split(r"  +", header)[:2] == ["system", "exact matches, %"]
    share = re.match(r"one +(\S+ ± \S+)  ", one).group(1)
    assert re.match(rf"two +{share}( \(1\.00\))?  ", two)
    assert sizes == "20 training pairs, 13 test sentences"
    assert notes == "in parentheses: the ratio to one; ** p < 0.01, * p < 0.05 (exact McNemar test)"
    main(command("--sentences", "2", "--format", "latex", systems=systems[:1]))
    assert r"exact matches, \% & " in capsys.readouterr().out
    main(command("--sentences", "2", "--format", "markdown", systems=systems[:1]))
    assert capsys.readouterr().out.startswith("| system ")


def test_progress_names_the_system_and_the_run(command, capsys):
    main(command("--sentences", "2"))
    logged = capsys.readouterr().err
    assert "plain, run 1: 2 of 2 sentences, " in logged
    assert "seq_kd, run 1: 2 of 2 sentences, " in logged


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sentences", "0"], "--sentences is 0; it must be 1 or more"),
        (["--max-tokens", "0"], "--max-tokens is 0; it must be 1 or more"),
        (["--beam", "0"], "--beam is 0; it must be 1 or more"),
        (["--baseline", "none"], "unknown baseline 'none'; choose from plain, seq_kd"),
        (["--test-references", "x.de"], "--test-references needs the sources of the test set; give them with --test-"),
        (["--noise-typos", "0.5"], "noise needs a test set to measure what it costs; give --test-sources and --test-"),
        (["--noise-typos", "2"], "--noise-typos is 2.0; it must be from 0 to 1"),
        (["--sources", "none.en"], "none.en does not exist; give an existing file"),
        (["--test-sources", "none.en"], "none.en does not exist; give an existing file"),
        (["--systems", "plain"], "--systems is 'plain'; it must be NAME=CHECKPOINT"),
        (["--systems", "plain=/none.pt"], "checkpoint /none.pt does not exist; give the path of a file written by "),
        (["--compute-type", "int8"], "--compute-type is int8; it must be default, float32 or float16"),
    ],
)
def test_wrong_input_is_refused_in_one_line(command, more, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}[^\n]*$"):
        main(command(*more))


def test_texts_of_different_lengths_are_refused(command, held_out, corpus, tmp_path):
    short = write(tmp_path / "short.de", ["ein Satz"])
    for flags in (["--references", short], [*held_out[:2], "--test-references", short]):
        with pytest.raises(UserError, match=r"short\.de has 1 lines, but .*\.en has \d+; each must have one line per"):
            main(command(*map(str, flags)))


def test_a_system_that_cannot_be_opened_is_refused_before_anything_is_translated(command, seq_kd_teacher, monkeypatch):
    monkeypatch.setattr("nmt_kd.evaluation.audited.audit_run", lambda *args: SimpleNamespace())
    monkeypatch.setattr("nmt_kd.evaluation.audited.translating", lambda *args: pytest.fail("it translates"))
    with pytest.raises(UserError, match=r"^checkpoint /none\.pt does not exist"):
        main(command(systems=[f"plain={seq_kd_teacher}", "seq_kd=/none.pt"]))


def test_a_baseline_with_another_number_of_runs_is_refused(command, seq_kd_teacher, teacher_path):
    systems = [f"plain={teacher_path}", f"seq_kd={seq_kd_teacher}", f"seq_kd={teacher_path}"]
    with pytest.raises(
        UserError, match=r"^seq_kd has 2 runs, the baseline plain has 1; give every system the same number"
    ):
        main(command("--baseline", "plain", systems=systems))
