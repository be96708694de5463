"""From shards to a corpus: order, choice, filters, and what is refused."""

import json
import os
import random

import numpy
import pytest
from conftest import TINY_TRANSFORMER, parse_training, train_here
from fairseq import tasks

from nmt_kd import cli
from nmt_kd.data import dictionary_checksum, source_checksum, subwords
from nmt_kd.decoding import order
from nmt_kd.decoding.corpus import Candidate, Corpus, Report
from nmt_kd.decoding.filters import Filters
from nmt_kd.decoding.opened import Student, open_decodings
from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.parts import closest, parse_folders
from nmt_kd.decoding.shards import BlocksByLength, Decoded, Hypothesis, ShardFolder
from nmt_kd.decoding.similarity import SIMILARITIES, sentence_bleu, sentence_chrf
from nmt_kd.decoding.writing import write_corpus
from nmt_kd.errors import UserError


@pytest.fixture(scope="module")
def train_set(data):
    """The training set of 600 pairs, as fairseq sees it."""
    task = tasks.setup_task(parse_training([data, *TINY_TRANSFORMER]).task)
    task.load_dataset("train")
    return task, task.dataset("train")


def hypotheses(task, item):
    """The reference backwards, the reference without its first word, and the reference itself: the last is closest."""
    words = subwords(task.target_dictionary, item["target"]).split()
    return [Hypothesis(-0.1 * rank, " ".join(text)) for rank, text in enumerate((words[::-1], words[1:], words))]


def make_decoding(folder, train_set, change=lambda decoded: decoded, blocks=None, **settings):
    """Shards as seq_kd would have written them, with hypotheses that are known."""
    task, dataset = train_set
    shards = ShardFolder(folder)
    dictionaries = {
        "source_dictionary": dictionary_checksum(task.source_dictionary),
        "target_dictionary": dictionary_checksum(task.target_dictionary),
    }
    standard = {"languages": "en-de", "subset": "train", "sentences": len(dataset), "block_sentences": 70}
    shards.claim({**standard, **dictionaries, **settings})
    cut = BlocksByLength(dataset.src_sizes, 70)
    for block in blocks if blocks is not None else range(len(cut)):
        sentences = []
        for number in cut.sentences(block).tolist():
            item = dataset[number]
            decoded = Decoded(number, source_checksum(item["source"]), hypotheses(task, item))
            sentences.append(change(decoded))
        shards.write(block, sentences)
    return folder


@pytest.fixture(scope="module")
def decoding(train_set, tmp_path_factory):
    return make_decoding(tmp_path_factory.mktemp("kd"), train_set)


def text_of(train_set):
    task, dataset = train_set
    for number in range(len(dataset)):
        item = dataset[number]
        yield subwords(task.source_dictionary, item["source"]), subwords(task.target_dictionary, item["target"])


def pairs_of(folders, data, parts="kd", filters=Filters(), **options):  # noqa: B008  (it cannot be changed)
    """The pairs of a corpus, how many each part has, and what was dropped."""
    words = [str(folder) for folder in (folders if isinstance(folders, list) else [folders])]
    corpus = Corpus(open_decodings(parse_folders(words, parts), Student(data, "en", "de")), filters, **options)
    corpus.compute_scores()
    found = list(corpus.candidates())
    corpus.report.pairs.update(candidate.label for candidate in found)
    return [(candidate.source, candidate.target) for candidate in found], corpus.report


def test_all_sentences_come_back_in_the_order_of_the_data(decoding, monkeypatch):
    monkeypatch.setattr(order, "BUCKET_SENTENCES", 17)
    assert [decoded.id for decoded in in_order(ShardFolder(decoding))] == list(range(600))


def test_however_many_sentences_few_files_are_open_and_none_has_a_name(decoding, monkeypatch):
    monkeypatch.setattr(order, "BUCKET_SENTENCES", 1)
    monkeypatch.setattr(order, "MOST_BUCKETS", 7)
    before, names = len(os.listdir("/proc/self/fd")), sorted(decoding.iterdir())
    ids = []
    for decoded in in_order(ShardFolder(decoding)):
        ids.append(decoded.id)
        assert len(os.listdir("/proc/self/fd")) <= before + 7
        assert sorted(decoding.iterdir()) == names  # what a killed process would leave
    assert ids == list(range(600))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ("kd", lambda originals: [(source, " ".join(target.split()[::-1])) for source, target in originals]),
        ("inter", lambda originals: originals),
        ("base", lambda originals: originals),
        ("base+inter", lambda originals: originals + originals),
        (
            "best-2",
            lambda originals: [
                (source, " ".join(words))
                for source, target in originals
                for words in (target.split()[::-1], target.split()[1:])
            ],
        ),
        (
            "best-3",
            lambda originals: [
                (source, " ".join(words))
                for source, target in originals
                for words in (target.split()[::-1], target.split()[1:], target.split())
            ],
        ),
    ],
)
@pytest.mark.parametrize("similarity", ["bleu", "chrf"])
def test_each_corpus_takes_the_hypotheses_it_should(decoding, data, train_set, parts, expected, similarity):
    pairs, report = pairs_of(decoding, data, parts, similarity=similarity)
    assert pairs == expected(list(text_of(train_set)))
    assert sum(report.pairs.values()) == len(pairs)


def test_of_equally_close_hypotheses_the_better_ranked_is_taken():
    texts = ["x", "a b x d", "a b y d"]
    for ranked in (texts, [texts[0], texts[2], texts[1]]):
        decoded = Decoded(0, "", [Hypothesis(-1.0, text) for text in ranked])
        for similarity in SIMILARITIES.values():
            assert closest(decoded, lambda text, measure=similarity: measure(text, "a b c d")) == [1]


@pytest.mark.parametrize("similarity", [sentence_bleu, sentence_chrf])
def test_similarity_to_the_reference_is_smoothed_and_highest_for_the_reference(similarity):
    reference = "das ist ein kleines Haus"
    scores = [similarity(text, reference) for text in ("Katze", "ein Haus", "das ist ein Haus", reference)]
    assert scores == sorted(scores)
    assert scores[-1] == pytest.approx(100)


def test_back_translations_are_paired_with_the_targets_they_were_made_of(decoding, data, train_set, tmp_path):
    reverse = tmp_path / "reverse"
    reversed_task = tasks.setup_task(parse_training([data, *TINY_TRANSFORMER, "-s", "de", "-t", "en"]).task)
    reversed_task.load_dataset("train")
    make_decoding(reverse, (reversed_task, reversed_task.dataset("train")), languages="de-en")
    pairs, report = pairs_of([f"{decoding}=base+kd", f"{reverse}=bt"], data)
    originals = list(text_of(train_set))
    assert report.pairs == {f"{decoding}=base": 600, f"{decoding}=kd": 600, f"{reverse}=bt": 600}
    assert pairs[:600] == originals
    assert pairs[1200:] == [(" ".join(source.split()[::-1]), target) for source, target in originals]


def test_filters_drop_and_count_what_they_are_asked_to(data, train_set, tmp_path):
    changes = {
        0: lambda decoded: [Hypothesis(0, "")],
        1: lambda decoded: [Hypothesis(0, "a b " * 5)],
        2: lambda decoded: [Hypothesis(0, " ".join(map(str, range(3000))))],
        3: lambda decoded: [],
        4: lambda decoded: [Hypothesis(0, source_of(4))],
    }
    source_of = lambda number: list(text_of(train_set))[number][0]  # noqa: E731

    def change(decoded):
        made = changes.get(decoded.id)
        return Decoded(decoded.id, decoded.source, made(decoded)) if made else decoded

    folder = make_decoding(tmp_path / "kd", train_set, change)
    _, plain = pairs_of(folder, data, "kd")
    assert plain.dropped == {"empty": 1, "not decoded": 1}
    _, filtered = pairs_of(folder, data, "kd", Filters(longest_ratio=9.0, loops=True, copies=True))
    assert filtered.dropped == {
        "empty": 1,
        "not decoded": 1,
        "length ratio": 1,
        "repetition loop": 1,
        "copy of the source": 1,
    }
    assert filtered.pairs == {"kd": 595}


def test_missing_blocks_are_named(data, train_set, tmp_path):
    folder = make_decoding(tmp_path / "kd", train_set, blocks=[0, 2, 3, 5, 6, 7, 8])
    with pytest.raises(UserError, match=r"lacks 2 of 9 blocks \(numbers 1, 4\); rerun the decoding"):
        pairs_of(folder, data, "kd")


@pytest.mark.parametrize("parts", ["kd", "inter", "best-2"])
def test_a_line_that_slipped_is_found(data, train_set, tmp_path, parts):
    """The classic way to lose a month."""
    numbers = list(range(600))
    random.Random(1).shuffle(numbers)
    first, second = numbers[:2]
    swapped = {first: second, second: first}
    folder = make_decoding(
        tmp_path / "kd",
        train_set,
        lambda decoded: Decoded(swapped.get(decoded.id, decoded.id), decoded.source, decoded.hypotheses),
    )
    with pytest.raises(UserError, match=r"differs from the one that was decoded|has sentence"):
        pairs_of(folder, data, parts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sentences": 599, "block_sentences": 70}, "was decoded with sentences 599, but --data has 600"),
        ({"source_dictionary": "0"}, "was decoded with source_dictionary 0, but --data has"),
        ({"subset": "train9"}, "has no train9.en-de; it has test, train, valid: choose"),
    ],
)
def test_other_data_is_refused(data, train_set, tmp_path, settings, message):
    folder = make_decoding(tmp_path / "kd", train_set, **settings)
    with pytest.raises(UserError, match=message):
        pairs_of(folder, data, "kd")


def test_decodings_in_the_wrong_direction_are_refused(decoding, data, train_set, tmp_path):
    with pytest.raises(UserError, match="was decoded from en-de, but 'bt' needs de-en; give a folder decoded in"):
        pairs_of([f"{decoding}=kd", f"{decoding}=bt"], data)
    with pytest.raises(UserError, match=r"'bt' needs a separate folder, decoded in the reverse direction, but .* has"):
        pairs_of(decoding, data, "base+kd+bt")
    other = make_decoding(tmp_path / "other", train_set, languages="de-en", target_dictionary="0")
    with pytest.raises(UserError, match=r"was decoded from de-en, but the corpus is en-de; .*, or add it as FOLDER=bt"):
        pairs_of([decoding, other], data)
    with pytest.raises(UserError, match="was decoded with target_dictionary 0"):
        pairs_of([decoding, f"{other}=bt"], data)


def interactive(folder, train_set, **settings):
    """A decoding by fairseq-interactive, which stores the sources."""
    texts = [source for source, _ in text_of(train_set)]
    return make_decoding(
        folder,
        train_set,
        lambda decoded: Decoded(decoded.id, decoded.source, decoded.hypotheses, {"text": texts[decoded.id]}),
        sentences=None,
        **settings,
    )


def test_text_without_references_gives_only_what_needs_none(data, train_set, tmp_path):
    folder = interactive(tmp_path / "kd", train_set)
    pairs, _ = pairs_of(folder, data, "kd")
    assert [source for source, _ in pairs] == [source for source, _ in text_of(train_set)]
    with pytest.raises(
        UserError, match=r"decoded from text without references, which 'base' needs; choose other parts"
    ):
        pairs_of(folder, data, "base+kd")
    reverse = interactive(tmp_path / "reverse", train_set, languages="de-en")
    pairs, _ = pairs_of([f"{folder}=kd", f"{reverse}=bt"], data)
    assert [target for _, target in pairs[600:]] == [source for source, _ in text_of(train_set)]
    other = interactive(tmp_path / "other", train_set, source_dictionary="0")
    with pytest.raises(UserError, match="was decoded with source_dictionary 0, but --data has"):
        pairs_of(other, data)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["FOLDER=base+best-x"],
            "unknown corpus part 'best-x'; choose from base, kd, best-2 .or another number., inter",
        ),
        (["FOLDER=best-1"], "unknown corpus part 'best-1'"),
        (["FOLDER=kd+"], "unknown corpus part ''"),
        (["FOLDER=kd+kd"], "the part 'kd' of .* is given twice; leave one out"),
        (["FOLDER=kd+base", "FOLDER/../kd=kd"], "the part 'kd' of .* is given twice; leave one out"),
        (["FOLDER", "FOLDER"], "the part 'kd' of .* is given twice; leave one out"),
        (["FOLDER=best-4"], "was decoded with --nbest 3, but 'best-4' needs 4 hypotheses of each sentence; decode"),
        (["ONE=mbr"], "was decoded with --nbest 1, but 'mbr' needs 2 hypotheses .* another part, such as 'kd'"),
    ],
)
def test_parts_that_a_folder_cannot_give_are_refused_before_any_work(train_set, tmp_path, data, words, message):
    make_decoding(tmp_path / "kd", train_set, blocks=[], nbest=3)
    make_decoding(tmp_path / "one", train_set, blocks=[], nbest=1)
    places = {"FOLDER": tmp_path / "kd", "ONE": tmp_path / "one"}
    for name, path in places.items():
        words = [word.replace(name, str(path)) for word in words]
    with pytest.raises(UserError, match=message):
        pairs_of(words, data)


def test_the_name_of_a_folder_may_have_equals_signs(train_set, tmp_path):
    (tmp_path / "a=b").mkdir()
    (folder,) = parse_folders([str(tmp_path / "a=b")], "base+kd")
    assert (folder.path, [part.name for part in folder.parts]) == (tmp_path / "a=b", ["base", "kd"])
    (folder,) = parse_folders([f"{tmp_path / 'a=b'}=mbr"], "base+kd")
    assert (folder.path, [part.name for part in folder.parts]) == (tmp_path / "a=b", ["mbr"])


def test_the_same_original_pairs_are_written_once(decoding, data, train_set, tmp_path, caplog):
    """Two teachers for the same data."""
    second = make_decoding(
        tmp_path / "second",
        train_set,
        lambda decoded: Decoded(decoded.id, decoded.source, decoded.hypotheses[2:]),
    )
    pairs, report = pairs_of([decoding, second], data, "base+kd")
    assert report.pairs == {f"{decoding}=base": 600, f"{decoding}=kd": 600, f"{second}=kd": 600}
    originals = list(text_of(train_set))
    assert pairs[:600] == pairs[1200:] == originals != pairs[600:1200]
    assert f"{decoding} and {second} have the same original pairs, which are written once" in caplog.text


def test_unknown_symbols_are_left_out_of_translations_and_kept_in_the_data(data, train_set, tmp_path):
    """A student must not learn to write <unk>; in a source, it stands for a word that is there."""
    folder = make_decoding(
        tmp_path / "kd",
        train_set,
        lambda decoded: Decoded(decoded.id, decoded.source, [Hypothesis(0, "<unk> a <unk> b"), Hypothesis(0, "<unk>")]),
    )
    pairs, report = pairs_of(folder, data, "best-2")
    assert {target for _, target in pairs} == {"a b"}
    assert report.unknown_left_out == 1800
    assert report.dropped == {"empty": 600}


def written(candidates, out, task, filters=Filters()):  # noqa: B008
    dictionaries = {"en": task.source_dictionary, "de": task.target_dictionary}
    return write_corpus(candidates, out, dictionaries, filters, Report())


def test_nothing_half_written_is_left_under_the_corpus_name(tmp_path, task):
    def pairs():
        yield Candidate("kd", "a", "b")
        raise UserError("sentence 1 slipped")

    for filters in (Filters(), Filters(duplicates=True)):
        with pytest.raises(UserError):
            written(pairs(), tmp_path, task, filters)
        assert list(tmp_path.iterdir()) == []
    assert written(iter([Candidate("kd", "a", "b")]), tmp_path, task) == 1
    assert (tmp_path / "train.de").read_text() == "b\n"


def test_the_command_makes_a_folder_that_trains(decoding, data, tmp_path, capsys):
    out = tmp_path / "data-bin"
    cli.main(["assemble", str(decoding), "--data", str(data), "--corpus", "base+inter", "--output", str(out)])
    printed = capsys.readouterr().out
    assert "base: 600 pairs" in printed
    assert f"wrote 1,200 pairs to {out}, binarised" in printed
    run = train_here(out, tmp_path / "run", "--criterion", "cross_entropy", "--max-update", "2")
    assert len(run.statistics["train_inner"]) == 2
    task = tasks.setup_task(parse_training([out, *TINY_TRANSFORMER]).task)
    task.load_dataset("train")
    dataset = task.dataset("train")
    assert len(dataset) == 1200
    assert numpy.array_equal(dataset[7]["target"], dataset[607]["target"])
    assert json.loads(json.dumps(dataset[7]["source"].tolist())) == dataset[607]["source"].tolist()
