import json
import math
import random
import re
import statistics
import sys
from collections import Counter
from pathlib import Path

import numpy
import pytest
from conftest import run_command
from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.cli import main
from nmt_kd.errors import UserError
from nmt_kd.evaluation.metrics import MultiBLEU, SegmentMean, as_multi_bleu
from nmt_kd.evaluation.scores import SystemScore, score_systems

BIN = Path(sys.executable).parent
SENTENCES = 60
WORDS = "der die das Hund Katze läuft schnell , . auf dem Dach & und".split()


def damaged(lines: list[str], share: float, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(w for w in line.split() if chance.random() >= share) or "der" for line in lines]


@pytest.fixture(scope="module")
def references() -> list[str]:
    chance = random.Random(0)
    return [" ".join(chance.choices(WORDS, k=chance.randint(4, 15))) for _ in range(SENTENCES)]


@pytest.fixture(scope="module")
def systems(references):
    return {
        "plain": [damaged(references, 0.3, seed) for seed in (1, 2)],
        "word_kd": [damaged(references, 0.1, seed) for seed in (3, 4)],
        "again": [damaged(references, 0.3, seed) for seed in (5, 6)],
    }


@pytest.fixture(scope="module")
def files(references, systems, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")

    def write(name, lines):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    write("references", references)
    for name, runs in systems.items():
        for number, run in enumerate(runs):
            write(f"{name}.{number}", run)
    return folder


def score(*arguments, capsys):
    main(["score", *(str(argument) for argument in arguments)])
    return capsys.readouterr().out


# -- values -----------------------------------------------------------------------------------------------------------


def test_scores_match_sacrebleus_command_line(files, capsys):
    metrics = ["bleu", "chrf", "ter"]
    result = run_command(
        BIN / "sacrebleu", files / "references", "-i", files / "plain.0", "-m", *metrics, "-w", "10", "--force"
    )
    theirs = json.loads(result.stdout)
    command = ["--references", files / "references", "--systems", f"plain={files / 'plain.0'}", "--metrics", *metrics]
    ours = json.loads(score(*command, "--format", "json", capsys=capsys))
    assert [row["mean"] for row in ours] == pytest.approx([row["score"] for row in theirs], abs=1e-9)
    text = score(*command, capsys=capsys)
    for row in theirs:
        assert row["signature"] in text


def test_p_values_match_sacrebleus_command_line(files, capsys):
    inputs = [files / "plain.0", files / "word_kd.0", files / "again.0"]
    command = [BIN / "sacrebleu", files / "references", "-i", *inputs, "-m", "bleu", "chrf", "--force", "-f", "text"]
    names = [f"{path.stem}={path}" for path in inputs]
    ours = json.loads(
        score(
            *("--references", files / "references", "--systems", *names, "--baseline", "plain", "--format", "json"),
            *("--bootstrap-samples", 200, "--randomisation-trials", 300),
            capsys=capsys,
        )
    )
    places = [(system, metric) for system in ("word_kd", "again") for metric in ("bleu", "chrf")]
    found = {(row["system"], row["metric"]): row for row in ours}
    for flags, kind in (
        (["--paired-bs", "--paired-bs-n", "200"], "bootstrap_p"),
        (["--paired-ar", "--paired-ar-n", "300"], "randomisation_p"),
    ):
        theirs = run_command(*command, *flags)
        assert theirs.returncode == 0, theirs.stderr
        expected = [float(p) for p in re.findall(r"\(p = ([\d.]+)\)", theirs.stdout)]
        assert [found[place][kind] for place in places] == pytest.approx(expected, abs=5e-5)
        assert found["plain", "bleu"][kind] is None


def multi_bleu_slowly(hypotheses, references):
    """What multi-bleu.perl computes, for one reference."""
    correct: Counter[int] = Counter()
    total: Counter[int] = Counter()
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        h, r = hypothesis.split(), reference.split()
        for n in range(1, 5):
            ours = Counter(tuple(h[i : i + n]) for i in range(len(h) - n + 1))
            theirs = Counter(tuple(r[i : i + n]) for i in range(len(r) - n + 1))
            total[n] += sum(ours.values())
            correct[n] += sum((ours & theirs).values())
    length, reference_length = (sum(len(line.split()) for line in lines) for lines in (hypotheses, references))
    brevity = min(1.0, math.exp(1 - reference_length / length))
    if min(correct[n] for n in range(1, 5)) == 0:
        return 0.0
    return 100 * brevity * math.exp(sum(math.log(correct[n] / total[n]) for n in range(1, 5)) / 4)


def test_multi_bleu_is_the_perl_scripts_arithmetic(references, systems):
    for runs in systems.values():
        ours = MultiBLEU([references]).corpus_score(runs[0], None).score
        assert ours == pytest.approx(multi_bleu_slowly(runs[0], references), abs=1e-9)


def test_multi_bleu_of_a_case_computed_by_hand():
    """5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; one word shorter than the reference."""
    score = MultiBLEU([["the cat sat on the mat ."]]).corpus_score(["the cat sat on a ."], None)
    by_hand = 100 * math.exp(1 - 7 / 6) * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert score.score == pytest.approx(by_hand, abs=1e-9)
    assert as_multi_bleu(score) == (
        f"BLEU = {by_hand:.2f}, 83.3/60.0/50.0/33.3 (BP=0.846, ratio=0.857, hyp_len=6, ref_len=7)"
    )


def test_multi_bleu_without_a_common_4_gram_is_zero():
    assert MultiBLEU([["a b c d e"]]).corpus_score(["a b c x e"], None).score == 0


def test_multi_bleu_tokenises_like_moses_on_request():
    pytest.importorskip("sacremoses")
    ours = MultiBLEU([["Der Hund , z.B. Rex , bellt ."]]).corpus_score(["Der Hund, z.B. Rex, bellt."], None)
    moses = MultiBLEU([["Der Hund, z.B. Rex, bellt."]], "de").corpus_score(["Der Hund, z.B. Rex, bellt."], None)
    assert ours.score < 100
    assert moses.score == pytest.approx(100)
    assert moses.sys_len == 8


def test_multi_bleu_uses_all_references(references, systems):
    both = [references, systems["again"][0]]
    ours = MultiBLEU(both).corpus_score(systems["plain"][0], None)
    assert ours.score > MultiBLEU([references]).corpus_score(systems["plain"][0], None).score


# -- several runs and significance ------------------------------------------------------------------------------------


def test_several_runs_have_a_mean_and_a_deviation(references, systems):
    (found,) = score_systems({"plain": systems["plain"]}, {"bleu": BLEU(references=[references])})
    values = [BLEU().corpus_score(run, [references]).score for run in systems["plain"]]
    assert found.runs == values
    assert found.mean == statistics.mean(values)
    assert found.deviation == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert found.bootstrap_p is None


def p_values(systems, metric):
    return {row.system: row for row in score_systems(systems, {"metric": metric}, "plain", 200, 200)}


@pytest.mark.parametrize("metric", [CHRF, BLEU])
def test_runs_are_tested_together_on_the_same_sampled_sentences(references, systems, metric):
    found = p_values(systems, metric(references=[references]))

    def score(runs, sentences):
        lines = [run[number] for run in runs for number in sentences]
        return metric().corpus_score(lines, [[references[number] for number in sentences] * len(runs)]).score

    drawn = numpy.random.default_rng(12345).choice(SENTENCES, size=(200, SENTENCES))
    samples = [range(SENTENCES), *drawn]
    baseline = numpy.array([score(systems["plain"], sample) for sample in samples])
    for name in ("word_kd", "again"):
        gain, *gains = abs(numpy.array([score(systems[name], sample) for sample in samples]) - baseline)
        gains = numpy.array(gains)
        slowly = (1 + sum(gains - gains.mean() >= gain)) / 201
        assert found[name].bootstrap_p == pytest.approx(slowly, abs=1.5 / 201)  # sacrebleu's sums are in float32
        if name == "word_kd":
            continue  # whose exchanges hardly ever leave as large a difference
        extreme = 0
        for kept in numpy.random.default_rng(12345).integers(2, size=(200, SENTENCES), dtype=bool):
            exchanged = [
                [
                    [(mine if keep else other)[number] for number, keep in enumerate(kept)]
                    for mine, other in zip(systems[own], systems[of_other], strict=True)
                ]
                for own, of_other in (("plain", name), (name, "plain"))
            ]
            one, two = (score(runs, range(SENTENCES)) for runs in exchanged)
            extreme += abs(one - two) >= gain - 1e-9
        assert found[name].randomisation_p == pytest.approx((1 + extreme) / 201)
    assert found["word_kd"].mark == "**"
    assert found["again"].mark == ""


def test_systems_with_the_same_translations_do_not_differ(references, systems):
    same = {"plain": systems["plain"], "copy": systems["plain"]}
    metrics = {
        "chrf": CHRF(references=[references]),
        "length": SegmentMean("length", lambda lines: list(map(len, lines))),
    }
    found = [row for row in score_systems(same, metrics, "plain", 200, 200) if row.system == "copy"]
    assert [(row.bootstrap_p, row.randomisation_p, row.mark) for row in found] == [(1, 1, "")] * 2


def test_systems_with_the_same_scores_do_not_differ(references, systems):
    spaced = [[f"{line} " for line in run] for run in systems["plain"]]
    same = {"plain": systems["plain"], "reordered": systems["plain"][::-1], "spaced": spaced}
    metrics = {"bleu": BLEU(references=[references]), "chrf": CHRF(references=[references])}
    found = [row for row in score_systems(same, metrics, "plain", 200, 200) if row.system != "plain"]
    assert [(row.bootstrap_p, row.randomisation_p) for row in found] == [(1, 1)] * 4


def test_one_sentence_is_never_significant():
    one = {"plain": [["der Hund"]], "word_kd": [["der Hund läuft schnell"]]}
    found = p_values(one, CHRF(references=[["der Hund läuft schnell"]]))["word_kd"]
    assert (found.randomisation_p, found.mark) == (1, "")


def test_a_trial_counts_if_its_difference_is_as_large_as_the_real_one():
    """With three sentences, 2 of 8 exchanges leave the whole difference, so p is 1/4 however many trials are made."""
    lines = ["a", "bb", "ccc"]
    metric = SegmentMean("share", lambda texts: [0.1 * len(text) for text in texts])
    systems = {"plain": [lines], "longer": [[line + line for line in lines]]}
    (_, found) = score_systems(systems, {"share": metric}, "plain", 10, 4000)
    assert found.randomisation_p == pytest.approx(1 / 4, abs=0.03)


def test_a_run_that_is_given_twice_is_as_significant_as_once(references, systems):
    metric = CHRF(references=[references])
    once = p_values({name: runs[:1] for name, runs in systems.items()}, metric)
    twice = p_values({name: runs[:1] * 2 for name, runs in systems.items()}, metric)
    for name in ("word_kd", "again"):
        assert twice[name].bootstrap_p == pytest.approx(once[name].bootstrap_p, abs=1.5 / 201)
        assert twice[name].randomisation_p == pytest.approx(once[name].randomisation_p, abs=1.5 / 201)


@pytest.mark.parametrize(
    ("p_values", "mark"), [((0.001, 0.009), "**"), ((0.001, 0.03), "*"), ((0.05, 0.001), ""), ((None, None), "")]
)
def test_marks_need_both_tests(p_values, mark):
    assert SystemScore("x", "bleu", [1.0], *p_values).mark == mark


def test_significance_of_a_sentence_level_score_is_tested(systems):
    metric = SegmentMean("length", lambda lines: [len(line) / 10 for line in lines])
    found = {row.system: row for row in score_systems(systems, {"length": metric}, "plain", 500, 500)}
    assert found["plain"].runs[0] == pytest.approx(statistics.mean(len(line) for line in systems["plain"][0]) / 10)
    assert found["word_kd"].mark == "**"
    assert found["again"].randomisation_p is not None
    assert found["again"].randomisation_p > 0.05


# -- output and errors ------------------------------------------------------------------------------------------------


def test_the_table_has_runs_marks_and_p_values_in_every_format(files, capsys):
    runs = [f"{name}={files / name}.{run}" for name in ("plain", "word_kd") for run in (0, 1)]
    command = ["--references", files / "references", "--systems", *runs, "--baseline", "plain", "--metrics", "bleu"]
    command += ["multi-bleu", "--bootstrap-samples", 200, "--randomisation-trials", 200]
    text = score(*command, capsys=capsys)
    assert text.splitlines()[0].split() == ["system", "bleu", "p,", "bleu", "multi-bleu", "p,", "multi-bleu"]
    assert " ± " in text
    assert " **" in text
    assert "p: paired bootstrap (200 samples) / approximate randomisation (200 trials) against plain" in text
    assert text.count("BLEU = ") == 4
    assert score(*command, "--format", "latex", capsys=capsys).startswith(r"\begin{tabular}{lrrrr}")
    assert score(*command, "--format", "markdown", capsys=capsys).startswith("| system")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--systems", "plain"], "--systems is 'plain'; it must be NAME=FILE"),
        (["--baseline", "teacher"], "unknown baseline 'teacher'; choose from plain$"),
        (["--metrics", "comet"], "COMET also needs the source sentences; give them with --sources"),
        (["--bootstrap-samples", "0"], "--bootstrap-samples is 0; it must be 1 or more"),
        (["--randomisation-trials", "-1"], "--randomisation-trials is -1; it must be 1 or more"),
        (
            ["--comet-models", "x"],
            "--comet-models has no effect without --metrics comet; add --metrics comet, or leave",
        ),
        (["--moses", "de"], "--moses has no effect without --metrics multi-bleu; add --metrics multi-bleu, or leave"),
        (
            ["--bootstrap-samples", "9"],
            "--bootstrap-samples has no effect without --baseline; add --baseline, or leave",
        ),
        (
            ["--randomisation-trials", "9"],
            "--randomisation-trials has no effect without --baseline; add --baseline, or",
        ),
        (["--systems", "plain=/none"], "/none does not exist; give an existing file"),
    ],
)
def test_wrong_arguments_are_refused(files, changes, message):
    command = ["score", "--references", str(files / "references"), "--systems", f"plain={files / 'plain.0'}"]
    with pytest.raises(UserError, match=message):
        main([*command, *changes])


def test_systems_with_more_or_fewer_runs_than_the_baseline_are_refused(references, systems):
    with pytest.raises(UserError, match="word_kd has 1 runs, the baseline plain has 2; give every system"):
        score_systems({"plain": systems["plain"], "word_kd": systems["word_kd"][:1]}, {}, "plain")
