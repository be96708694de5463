"""Corpora of several folders, in subwords and in text, by the command."""

import json

import pytest
from decoding.test_corpus import interactive, make_decoding, text_of, train_set  # noqa: F401  (a fixture)
from decoding.test_scores_of_hypotheses import joined
from decoding.test_text_form import lines

from nmt_kd import cli
from nmt_kd.decoding.importing import import_translations
from nmt_kd.decoding.shards import Decoded, Hypothesis
from nmt_kd.errors import UserError


@pytest.fixture(scope="module")
def decoded(train_set, tmp_path_factory):  # noqa: F811
    return make_decoding(tmp_path_factory.mktemp("sources") / "decoded", train_set, nbest=3)


def imported(folder, entries, source_lang="en", target_lang="de"):
    folder.parent.mkdir(exist_ok=True)
    file = folder.with_suffix(".jsonl")
    rows = ({"source": source, "translations": texts} for source, texts in entries)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    import_translations([file], folder, source_lang, target_lang, block_sentences=4)
    return folder


@pytest.fixture(scope="module")
def monolingual(corpus, tmp_path_factory):
    """The validation sentences with their references backwards, and in order."""
    pairs = zip(lines(corpus / "text/valid.en"), lines(corpus / "text/valid.de"), strict=True)
    entries = [(source, [" ".join(target.split()[::-1]), target]) for source, target in pairs]
    return imported(tmp_path_factory.mktemp("sources") / "monolingual", entries)


@pytest.fixture(scope="module")
def reverse(corpus, tmp_path_factory):
    """The test sentences, back-translated perfectly."""
    pairs = zip(lines(corpus / "text/test.en"), lines(corpus / "text/test.de"), strict=True)
    entries = [(target, [source]) for source, target in pairs]
    return imported(tmp_path_factory.mktemp("sources") / "reverse", entries, "de", "en")


@pytest.fixture
def assemble(data, corpus, tmp_path, capsys):
    def assemble(*words, model=True, **flags):
        command = ["assemble", *words, "--data", data, "--output", tmp_path / "out"]
        command += ["--subword-model", corpus / "pieces/subwords.model"] if model else []
        capsys.readouterr()
        cli.main([str(word) for word in command])
        sides = (lines(tmp_path / f"out/text/train.{language}") for language in ("en", "de"))
        printed = capsys.readouterr()
        return list(zip(*sides, strict=True)), printed.out + printed.err

    return assemble


def pieces(corpus, split):
    return list(zip(*(lines(corpus / f"pieces/{split}.{language}") for language in ("en", "de")), strict=True))


def test_subwords_and_text_in_both_directions_become_one_corpus(
    assemble,
    decoded,
    monolingual,
    reverse,
    corpus,
    train_set,  # noqa: F811
):
    pairs, printed = assemble(f"{decoded}=base+inter", f"{monolingual}=best-2", f"{reverse}=bt")
    originals, valid, test = list(text_of(train_set)), pieces(corpus, "valid"), pieces(corpus, "test")
    assert pairs[:1200] == originals * 2
    assert pairs[1200:1240][1::2] == valid
    assert [(source, joined(target)) for source, target in pairs[1200:1240][::2]] == [
        (source, " ".join(joined(target).split()[::-1])) for source, target in valid
    ]
    assert pairs[1240:] == test
    counts = {f"{decoded}=base": 600, f"{decoded}=inter": 600, f"{monolingual}=best-2": 40, f"{reverse}=bt": 13}
    assert printed.splitlines()[:4] == [f"{label}: {count} pairs" for label, count in counts.items()]


def test_the_order_is_that_of_the_command(assemble, decoded, monolingual):
    forward, _ = assemble(f"{decoded}=kd", f"{monolingual}=kd")
    backward, _ = assemble(f"{monolingual}=kd", f"{decoded}=kd")
    assert backward == forward[600:] + forward[:600]


def test_references_serve_the_folders_that_need_them(assemble, decoded, monolingual, corpus):
    references = ["--references", corpus / "text/valid.de"]
    pairs, printed = assemble(f"{decoded}=kd", f"{monolingual}=base+inter", *references)
    assert pairs[600:] == pieces(corpus, "valid") * 2
    assert f"{monolingual}=base: 20 pairs" in printed
    with pytest.raises(UserError, match="monolingual was decoded from text without references, which 'base' needs; ch"):
        assemble(decoded, monolingual, "--corpus", "base+kd")


def test_the_same_pairs_as_subwords_and_as_text_are_written_once(assemble, decoded, corpus, tmp_path):
    """Two teachers, one with --task seq_kd and one with nmt-kd import."""
    other = imported(
        tmp_path / "other",
        [(source, ["gut"]) for source in lines(corpus / "text/train.en")],
    )
    pairs, printed = assemble(decoded, other, "--corpus", "base+kd", "--references", corpus / "text/train.de")
    assert f"{decoded} and {other} have the same original pairs, which are written once" in printed
    assert len(pairs) == 1800
    assert {joined(target) for _, target in pairs[1200:]} == {"gut"}


def test_mbr_compares_text_and_not_subwords_in_both_forms(assemble, train_set, corpus, tmp_path):  # noqa: F811
    """The same hypotheses give the same choice, however they are stored and split."""
    texts = ["die rote Tisch", "der rote Tisch", "der rote Hund", "ein roter Hund"]

    def letters(text):
        return " ".join("\u2581" + " ".join(word) for word in text.split())

    folder = interactive_with(tmp_path / "letters", train_set, [letters(text) for text in texts])
    other = imported(tmp_path / "text", [("the red table", texts)])
    (*_, last), _ = assemble(f"{folder}=mbr", f"{other}=mbr")
    first, _ = assemble(f"{folder}=mbr", model=False)
    assert {joined(target) for _, target in first} == {joined(last[1])} == {"der rote Tisch"}


def interactive_with(folder, train_set, texts):  # noqa: F811
    return make_decoding(
        folder,
        train_set,
        lambda decoded: Decoded(decoded.id, decoded.source, [Hypothesis(0, text) for text in texts]),
    )


def test_imported_lists_may_be_shorter_than_n(assemble, tmp_path):
    folder = imported(tmp_path / "text", [("the red table", ["der Tisch"]), ("the dog", ["a", "b", "c"])])
    pairs, printed = assemble(f"{folder}=best-3")
    assert [joined(target) for _, target in pairs] == ["der Tisch", "a", "b", "c"]
    assert "best-3: 4 pairs" in printed
    assert "at most" not in printed
    _, printed = assemble(f"{folder}=best-4")
    assert "has at most 3 hypotheses of a sentence, fewer than 'best-4' needs" in printed


def test_duplicates_are_counted(assemble, decoded, monolingual, corpus):
    pairs, printed = assemble(f"{decoded}=base+inter", f"{monolingual}=kd", f"{decoded}=kd", "--deduplicate")
    assert len(set(pairs)) == len(pairs)
    assert f"left out, duplicate: {1820 - len(pairs):,}" in printed


def test_folders_of_other_directions_and_names_are_refused(assemble, decoded, monolingual, reverse, tmp_path):
    with pytest.raises(UserError, match="reverse was decoded from de-en, but the corpus is en-de; give a folder dec"):
        assemble(decoded, reverse)
    with pytest.raises(UserError, match="monolingual was decoded from en-de, but 'bt' needs de-en"):
        assemble(decoded, f"{monolingual}=bt")
    nllb = imported(tmp_path / "nllb", [("the dog", ["der Hund"])], "eng_Latn", "deu_Latn")
    with pytest.raises(UserError, match="nllb was decoded from eng_Latn-deu_Latn, but the corpus is en-de; if these"):
        assemble(decoded, nllb)
    pairs, _ = assemble(decoded, nllb, "--source-lang", "en", "--target-lang", "de")
    assert joined(pairs[-1][1]) == "der Hund"
    with pytest.raises(UserError, match="contains plain text; give the student's subword model as --subword-model"):
        assemble(decoded, monolingual, model=False)


def test_text_of_fairseq_interactive_joins_as_well(assemble, decoded, train_set, tmp_path):  # noqa: F811
    reverse = interactive(tmp_path / "mono", train_set, languages="de-en")
    pairs, _ = assemble(f"{decoded}=kd", f"{reverse}=bt", model=False)
    assert len(pairs) == 1200
