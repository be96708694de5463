"""Hypotheses chosen by scores: compared with slow forms, stored, and resumed."""

import json
import random
import sys
import time
from fractions import Fraction

import pytest
from comet_models import tiny_comet
from decoding.test_corpus import make_decoding, pairs_of, text_of, train_set  # noqa: F401  (a fixture)
from sacrebleu.metrics import CHRF
from worker import Worker

from nmt_kd import cli
from nmt_kd.data import subwords
from nmt_kd.decoding.filters import Filters
from nmt_kd.decoding.shards import Decoded, Hypothesis, ShardFolder
from nmt_kd.decoding.utilities import ChrfUtility, CometQuality, CometUtility, ReverseScorer
from nmt_kd.errors import UserError


def joined(text: str) -> str:
    return text.replace(" ", "").replace("\u2581", " ").strip()


def variants(task, item, number) -> list[str]:
    """A list of up to six hypotheses of any quality, some of them equal; none for one sentence in fifty."""
    draw, words = random.Random(number), subwords(task.target_dictionary, item["target"]).split()
    texts = []
    for _ in range(draw.randint(1, 5) if number % 50 else 0):
        texts.append(" ".join(draw.sample(words, draw.randint(1, len(words)))))
    return texts + texts[:1]


@pytest.fixture(scope="module")
def decoding(train_set, tmp_path_factory):  # noqa: F811
    task, dataset = train_set

    def change(decoded):
        texts = variants(task, dataset[decoded.id], decoded.id)
        return Decoded(decoded.id, decoded.source, [Hypothesis(-rank, text) for rank, text in enumerate(texts)])

    return make_decoding(tmp_path_factory.mktemp("kd") / "kd", train_set, change, nbest=6)


@pytest.fixture(scope="module")
def lists(decoding, train_set):  # noqa: F811
    task, dataset = train_set
    return [variants(task, dataset[number], number) for number in range(len(dataset))]


def slow_choice(texts: list[str], utility) -> int:
    """MBR decoding by a double loop over what is not empty."""
    means = []
    for number, text in enumerate(texts):
        others = [utility(text, other) for rank, other in enumerate(texts) if rank != number and other]
        means.append(-1 if not text else round(sum(others) / len(others), 6) if others else 0.0)
    return means.index(max(means))


def test_mbr_takes_what_a_double_loop_with_sacrebleus_chrf_takes(decoding, lists, data, train_set):  # noqa: F811
    pairs, report = pairs_of(decoding, data, "mbr", scorers={"mbr": ChrfUtility()})
    chrf = CHRF()
    chosen = [
        (source, texts[slow_choice([*map(joined, texts)], lambda one, other: chrf.sentence_score(one, [other]).score)])
        for (source, _), texts in zip(text_of(train_set), lists, strict=True)
        if texts
    ]
    assert pairs == chosen
    assert pairs != pairs_of(decoding, data, "kd")[0]
    assert report.dropped == {"not decoded": 12}


def test_of_hypotheses_with_equal_utility_the_better_ranked_is_taken(data, train_set, tmp_path):  # noqa: F811
    words = ["\u2581xx", "\u2581yy", "\u2581zz"]  # no letters in common
    texts = [words[0], words[1], words[1], words[2], words[2]]
    folder = make_decoding(
        tmp_path / "kd",
        train_set,
        lambda decoded: Decoded(decoded.id, decoded.source, [Hypothesis(0, text) for text in texts]),
    )
    pairs, _ = pairs_of(folder, data, "mbr", scorers={"mbr": ChrfUtility()})
    assert {target for _, target in pairs} == {words[1]}


@pytest.fixture(scope="module")
def comet(tmp_path_factory):
    pytest.importorskip("comet")
    folder = tmp_path_factory.mktemp("comet")
    return {name: str(tiny_comet(folder, name, name == "mbr")) for name in ("mbr", "qe")}


def test_comet_utilities_are_those_of_its_own_predictions(comet, lists):
    scorer = CometUtility(comet["mbr"])
    entries = [(f"the red table {n}", [*filter(None, map(joined, texts))]) for n, texts in enumerate(lists[:30])]
    for (source, texts), found in zip(entries, scorer.score(entries), strict=True):
        for number, score in enumerate(found):
            samples = [{"src": source, "mt": texts[number], "ref": ref} for i, ref in enumerate(texts) if i != number]
            if not samples:
                assert score == 0
                continue
            theirs = scorer.model.predict(samples, batch_size=1, gpus=0, progress_bar=False, num_workers=0).scores
            assert score == pytest.approx(sum(theirs) / len(theirs), abs=1e-4)


def test_qe_takes_the_best_for_the_model(comet, decoding, lists, data, train_set):  # noqa: F811
    scorer = CometQuality(comet["qe"])
    pairs, _ = pairs_of(decoding, data, "qe", scorers={"qe": scorer})
    originals = [(source, texts) for (source, _), texts in zip(text_of(train_set), lists, strict=True) if texts]
    assert len(pairs) == len(originals)
    different = 0
    for (source, texts), (_, chosen) in list(zip(originals, pairs, strict=True))[:25]:
        texts = [text for text in texts if joined(text)]
        samples = [{"src": joined(source), "mt": joined(text)} for text in texts]
        scores = scorer.model.predict(samples, batch_size=1, gpus=0, progress_bar=False, num_workers=0).scores
        assert scores[texts.index(chosen)] == pytest.approx(max(scores), abs=1e-4)
        different += chosen != texts[0]
    assert different


def test_models_of_the_wrong_kind_are_refused(comet):
    with pytest.raises(UserError, match=r"--mbr-comet .*qe does not compare translations with references; give a reg"):
        CometUtility(comet["qe"])
    with pytest.raises(UserError, match=r"--qe-comet .*mbr needs references; give a reference-free model such as"):
        CometQuality(comet["mbr"])


def test_without_fastchrf_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastchrf", None)
    with pytest.raises(UserError, match=r"'mbr' needs fastchrf; pip install 'nmt-kd\[mbr\]'"):
        ChrfUtility()


class Counting:
    """Counts the sentences that it scores, and can take its time. The more different letters, the better."""

    name, settings = "mbr", {"utility": "letters"}

    def __init__(self, seconds=0.0):
        self.scored, self.seconds = 0, seconds

    def score(self, entries):
        self.scored += len(entries)
        time.sleep(self.seconds)
        return [[len(set(text)) for text in hypotheses] for _, hypotheses in entries]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "scores").rglob("*.jsonl"))}


@pytest.fixture
def copy(decoding, train_set, lists, tmp_path):  # noqa: F811
    """The decoding in a folder without scores."""

    def change(decoded):
        texts = lists[decoded.id]
        return Decoded(decoded.id, decoded.source, [Hypothesis(-rank, text) for rank, text in enumerate(texts)])

    return make_decoding(tmp_path / "kd", train_set, change, nbest=6)


def test_scores_are_computed_once_for_all_corpora(copy, data):
    scorer = Counting()
    first, _ = pairs_of(copy, data, "mbr", scorers={"mbr": scorer})
    again, _ = pairs_of(copy, data, "base+mbr", scorers={"mbr": scorer})
    assert again[600:] == first
    assert scorer.scored == 600


def test_a_killed_run_loses_at_most_a_block_and_changes_nothing(copy, data, tmp_path):
    undisturbed, _ = pairs_of(copy, data, "mbr", scorers={"mbr": Counting()})
    expected = contents(copy)
    for path in (copy / "scores").rglob("*.jsonl"):
        path.unlink()
    worker = Worker(lambda: pairs_of(copy, data, "mbr", scorers={"mbr": Counting(0.2)}), [], tmp_path / "log")
    deadline = time.monotonic() + 60
    while len(contents(copy)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.kill()
    done = len(contents(copy))
    assert 3 <= done < 9
    scorer = Counting()
    assert pairs_of(copy, data, "mbr", scorers={"mbr": scorer})[0] == undisturbed
    assert scorer.scored <= 600 - 70 * (done - 1)
    assert contents(copy) == expected


def test_scores_of_a_block_that_was_decoded_again_are_computed_again(copy, data, train_set):  # noqa: F811
    pairs_of(copy, data, "mbr", scorers={"mbr": Counting()})
    shards = ShardFolder(copy)
    changed = [
        Decoded(each.id, each.source, [Hypothesis(0, each.hypotheses[-1].text)] if each.hypotheses else [])
        for each in shards.read(4)
    ]
    shards.write(4, changed)
    scorer = Counting()
    pairs, _ = pairs_of(copy, data, "mbr", scorers={"mbr": scorer})
    assert scorer.scored == 70
    assert {each.hypotheses[0].text for each in changed if each.hypotheses} <= {target for _, target in pairs}


class ByLength:
    """A reverse model that likes short texts."""

    settings = {"teacher": "by length"}  # noqa: RUF012
    longest_source = 100
    scored = 0

    def __init__(self, *languages):
        self.languages = languages or ("de", "en")

    def score(self, sources, translations):
        self.scored += len(sources)
        return [-len(source) - len(text) / 1000 for source, text in zip(sources, translations, strict=True)]


def test_scores_for_other_languages_are_not_reused(copy, data):
    filters = Filters(worst=Fraction(1, 10))
    for model in (ByLength("de", "fr"), ByLength("de", "en")):
        pairs_of(copy, data, "kd", filters, scorers={"reverse": ReverseScorer(model)})
        assert model.scored > 0


def test_only_the_hypotheses_of_a_part_are_scored_and_stored(copy, data, lists):
    model, filters = ByLength(), Filters(worst=Fraction(1, 10))
    pairs_of(copy, data, "kd", filters, scorers={"reverse": ReverseScorer(model)})
    decoded = sum(bool(texts) and bool(joined(texts[0])) for texts in lists)
    assert model.scored == decoded
    pairs_of(copy, data, "base+kd", filters, scorers={"reverse": ReverseScorer(model)})
    assert model.scored == decoded
    scorers = {"reverse": ReverseScorer(model), "mbr": ChrfUtility()}
    pairs_of(copy, data, "mbr", filters, scorers=scorers)
    assert model.scored == decoded + sum(any(map(joined, texts)) for texts in lists)
    manifests = [json.loads(path.read_text()) for path in sorted((copy / "scores").glob("*/manifest.json"))]
    assert [(each.get("part"), each.get("utility"), each.get("teacher")) for each in manifests] == [
        (None, "chrF", None),
        *sorted([("kd", None, "by length"), ("mbr", "chrF", "by length")]),
    ] or [each.get("part") for each in manifests] == [None, "mbr", "kd"]


def test_nothing_is_computed_for_a_folder_that_is_not_finished(data, train_set, tmp_path):  # noqa: F811
    folder = make_decoding(tmp_path / "kd", train_set, blocks=[0, 1], nbest=3)
    with pytest.raises(UserError, match="lacks 7 of 9 blocks"):
        cli.main(["assemble", f"{folder}=mbr", "--data", str(data), "--output", str(tmp_path / "out")])
    assert not (folder / "scores").exists()
    assert not (tmp_path / "out").exists()
