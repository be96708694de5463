"""From shards to a corpus: order, choice, filters, and what is refused."""

import json
import random

import numpy
import pytest
from conftest import TINY_TRANSFORMER, parse_training, train_here
from fairseq import tasks

from nmt_kd import cli
from nmt_kd.data import dictionary_checksum, source_checksum, subwords
from nmt_kd.decoding import order
from nmt_kd.decoding.corpus import assemble
from nmt_kd.decoding.filters import Filters
from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.selection import closest_to_reference, sentence_bleu, sentence_chrf
from nmt_kd.decoding.shards import BlocksByLength, Decoded, Hypothesis, ShardFolder
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


def pairs_of(decoding, data, parts, filters=Filters(), **options):  # noqa: B008  (it cannot be changed)
    pairs, report = assemble(decoding, data, parts.split("+"), filters, **options)
    return list(pairs), report


def test_all_sentences_come_back_in_the_order_of_the_data(decoding, monkeypatch):
    monkeypatch.setattr(order, "BUCKET_SENTENCES", 17)
    assert [decoded.id for decoded in in_order(ShardFolder(decoding))] == list(range(600))


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
    ],
)
@pytest.mark.parametrize("similarity", ["bleu", "chrf"])
def test_each_corpus_takes_the_hypotheses_it_should(decoding, data, train_set, parts, expected, similarity):
    pairs, report = pairs_of(decoding, data, parts, similarity=similarity)
    assert pairs == expected(list(text_of(train_set)))
    assert sum(report.pairs.values()) == len(pairs)


def test_of_equally_close_hypotheses_the_better_ranked_is_taken():
    best, second = Hypothesis(-1.0, "a b x d"), Hypothesis(-2.0, "a b y d")
    assert closest_to_reference([best, second], "a b c d", "bleu") is best
    assert closest_to_reference([second, best], "a b c d", "chrf") is second


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
    pairs, report = pairs_of(decoding, data, "base+kd+bt", reverse_folder=reverse)
    originals = list(text_of(train_set))
    assert report.pairs == {"base": 600, "kd": 600, "bt": 600}
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
        ({"sentences": 599, "block_sentences": 70}, "was decoded with sentences 599, but the data given has 600"),
        ({"source_dictionary": "0"}, "was decoded with source_dictionary 0, but the data given has"),
        ({"subset": "train9"}, "has no train9.en-de; it has test, train, valid: choose"),
    ],
)
def test_other_data_is_refused(data, train_set, tmp_path, settings, message):
    folder = make_decoding(tmp_path / "kd", train_set, **settings)
    with pytest.raises(UserError, match=message):
        pairs_of(folder, data, "kd")


def test_reverse_decodings_that_do_not_fit_are_refused(decoding, data, train_set, tmp_path):
    with pytest.raises(UserError, match="'bt' needs the decoding of a reverse teacher; name its folder with --rev"):
        pairs_of(decoding, data, "bt")
    with pytest.raises(UserError, match="was decoded from en-de, but a reverse teacher for this data is de-en"):
        pairs_of(decoding, data, "bt", reverse_folder=decoding)
    other = make_decoding(tmp_path / "other", train_set, languages="de-en", target_dictionary="0")
    with pytest.raises(UserError, match="was decoded with target_dictionary 0"):
        pairs_of(decoding, data, "bt", reverse_folder=other)


def test_text_without_references_gives_only_what_needs_none(data, train_set, tmp_path):
    texts = [source for source, _ in text_of(train_set)]
    folder = make_decoding(
        tmp_path / "kd",
        train_set,
        lambda decoded: Decoded(decoded.id, decoded.source, decoded.hypotheses, {"text": texts[decoded.id]}),
        sentences=None,
    )
    pairs, _ = pairs_of(folder, data, "kd")
    assert [source for source, _ in pairs] == texts
    with pytest.raises(
        UserError, match=r"decoded from text without references, which 'base\+kd' needs; choose from kd,"
    ):
        pairs_of(folder, data, "base+kd")
    reverse = make_decoding(tmp_path / "reverse", train_set, sentences=None, languages="de-en")
    complete = make_decoding(tmp_path / "complete", train_set)
    with pytest.raises(
        UserError, match=r"reverse was decoded by fairseq-interactive; for 'bt', decode .* with fairseq-gen"
    ):
        pairs_of(complete, data, "bt", reverse_folder=reverse)


def test_an_unknown_part_is_named(decoding, data):
    with pytest.raises(UserError, match="unknown corpus part 'best-9'; choose from base, bt, kd, best-2, inter"):
        pairs_of(decoding, data, "base+best-9")


def test_nothing_half_written_is_left_under_the_corpus_name(tmp_path):
    def pairs():
        yield "a", "b"
        raise UserError("sentence 1 slipped")

    with pytest.raises(UserError):
        write_corpus(pairs(), tmp_path, "en", "de")
    assert list(tmp_path.iterdir()) == []
    assert write_corpus(iter([("a", "b")]), tmp_path, "en", "de") == 1
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
