"""From plain text to a corpus in the student's own subwords."""

import json

import pytest
import subwords
from conftest import TINY_TRANSFORMER, binarise, parse_training, train_here
from fairseq import tasks

from nmt_kd import cli
from nmt_kd.decoding.importing import import_translations
from nmt_kd.errors import UserError
from nmt_kd.subword_model import SubwordModel

STRANGE = "Schrank \u4e2d"  # with a character that no training sentence has


def lines(path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def student(corpus, tmp_path_factory):
    """The corpus in a vocabulary of its own: pieces/subwords.model and data-bin/."""
    folder = tmp_path_factory.mktemp("student")
    words = [corpus / "text", folder / "pieces", "--languages", "en", "de", "--vocabulary-size", "110"]
    subwords.main([str(word) for word in words])
    binarise(folder / "pieces", folder / "data-bin", "--joined-dictionary")
    return folder


@pytest.fixture(scope="module")
def imported(corpus, tmp_path_factory):
    """The test sentences, each with two translations: the words of the reference backwards, and the reference."""
    folder = tmp_path_factory.mktemp("imported")
    entries = []
    for source, reference in zip(*(lines(corpus / f"text/test.{side}") for side in ("en", "de")), strict=True):
        entries.append({"source": source, "translations": [" ".join(reference.split()[::-1]), reference]})
    entries[2]["translations"][0] = STRANGE
    (folder / "x.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    import_translations([folder / "x.jsonl"], folder / "text", "en", "de", block_sentences=5)
    return folder / "text"


@pytest.fixture
def assemble(imported, student, tmp_path, capsys):
    """Assemble into tmp_path/out, and return the pairs as text and what was printed."""

    def assemble(*flags, folder=imported, model=student / "pieces/subwords.model"):
        words = ["assemble", folder, "--data", student / "data-bin", "--output", tmp_path / "out"]
        words += ["--subword-model", model] if model else []
        cli.main([str(word) for word in [*words, *flags]])
        sides = (lines(tmp_path / f"out/text/train.{language}") for language in ("en", "de"))
        joined = [[line.replace(" ", "").replace("\u2581", " ").strip() for line in side] for side in sides]
        return list(zip(*joined, strict=True)), capsys.readouterr().out

    return assemble


def reversed_words(reference):
    return " ".join(reference.split()[::-1])


@pytest.fixture
def pairs(corpus):
    return list(zip(*(lines(corpus / f"text/test.{side}") for side in ("en", "de")), strict=True))


def test_each_part_takes_the_hypotheses_it_should(assemble, pairs, corpus):
    references = ["--references", corpus / "text/test.de"]
    backwards = [(source, reversed_words(reference)) for source, reference in pairs]
    backwards[2] = pairs[2][0], STRANGE
    assert assemble("--corpus", "kd")[0] == backwards
    both = [pair for two in zip(backwards, pairs, strict=True) for pair in two]
    assert assemble("--corpus", "best-2")[0] == both
    assert assemble("--corpus", "inter", *references)[0] == pairs
    assert assemble("--corpus", "base+kd", *references)[0] == pairs + backwards


def test_the_corpus_is_in_the_students_subwords_and_trains(assemble, student, corpus, tmp_path):
    _, printed = assemble("--corpus", "kd")
    for language, expected in (("en", 0), ("de", 1)):
        found = lines(tmp_path / f"out/text/train.{language}")
        if language == "en":
            assert found == lines(student / "pieces/test.en")
        assert not any("<unk>" in line for line in found)
        assert (f"not in dict.{language}.txt, binarised as unknown: 1 symbols" in printed) == bool(expected)
    task = tasks.setup_task(parse_training([tmp_path / "out", *TINY_TRANSFORMER]).task)
    task.load_dataset("train")
    assert len(task.dataset("train")) == 13
    assert (task.dataset("train")[2]["target"] == task.target_dictionary.unk()).sum() == 1
    run = train_here(tmp_path / "out", tmp_path / "run", "--criterion", "cross_entropy", "--max-update", "1")
    assert len(run.statistics["train_inner"]) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--corpus", "inter"],
            "without references, which 'inter' needs; choose other parts, or give --references",
        ),
        (["--corpus", "base+bt"], "'bt' needs a separate folder, decoded in the reverse direction, but .* has"),
        (["--corpus", "bt"], "has no data in de-en; give the student's data or, if"),
        (
            ["--corpus", "bt", "--source-lang", "en", "--target-lang", "de"],
            "was decoded from en-de, but 'bt' needs de-en; give a folder decoded",
        ),
        (["--references", "TEXT/test.de"], "--references are only for 'base' and 'inter' of folders with text"),
        (["--corpus", "base", "--references", "TEXT/valid.de"], r"valid.de: 20 lines, but .* has 13 sentences"),
        (["--source-lang", "eng_Latn"], "has no data in eng_Latn-de; give the student's data or, if it names the lang"),
        (["--subword-model", "PIECES/subwords.model"], "splits only 0 of 20 sentences as in .*; give the model that"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(assemble, corpus, flags, message):
    places = {"TEXT": corpus / "text", "PIECES": corpus / "pieces"}
    flags = [str(places.get(flag.partition("/")[0], "")) + flag.removeprefix("TEXT").removeprefix("PIECES")
             if flag.partition("/")[0] in places else flag for flag in flags]  # fmt: skip
    with pytest.raises(UserError, match=message):
        assemble(*flags)


def test_data_that_is_named_in_the_other_direction_keeps_its_validation_set(assemble, corpus, data, tmp_path):
    """fairseq reads valid.en-de for a student that translates from German, too."""
    assemble("--corpus", "bt", "--source-lang", "de", "--target-lang", "en")
    copied = {file.name for file in (tmp_path / "out").glob("valid.*")}
    assert copied == {file.name for file in data.glob("valid.*")} != set()


def test_text_needs_a_subword_model(assemble):
    with pytest.raises(UserError, match="contains plain text; give the student's subword model as --subword-model"):
        assemble(model=None)


def test_the_students_data_may_name_the_languages_differently(corpus, student, tmp_path, pairs, assemble):
    rows = "".join(f"{source}\t{target}\n" for source, target in pairs)
    (tmp_path / "x.tsv").write_text(rows, encoding="utf-8")
    import_translations([tmp_path / "x.tsv"], tmp_path / "text", "eng_Latn", "deu_Latn")
    languages = ["--source-lang", "en", "--target-lang", "de"]
    assert assemble(*languages, folder=tmp_path / "text")[0] == pairs
    with pytest.raises(UserError, match="has no data in eng_Latn-deu_Latn"):
        assemble(folder=tmp_path / "text")
    with pytest.raises(UserError, match="--target-lang is zh-TW; it must be without a hyphen; write zh_TW, not zh-TW"):
        import_translations([tmp_path / "x.tsv"], tmp_path / "other", "en", "zh-TW")


def test_line_breaks_of_other_kinds_do_not_shift_the_corpus(tmp_path, assemble):
    (tmp_path / "x.jsonl").write_text('{"source": "The red\\ntable", "translations": ["Der\\u2028rote\\rTisch"]}\n')
    import_translations([tmp_path / "x.jsonl"], tmp_path / "text", "en", "de")
    assert assemble(folder=tmp_path / "text")[0] == [("The red table", "Der rote Tisch")]


def test_a_subword_model_of_the_sources_alone_does_not_split_the_translations(assemble, corpus, tmp_path):
    for language in ("en", "de"):
        subwords.train_subwords([corpus / f"text/train.{language}"], tmp_path / language, 90)
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    for subset in ("train", "valid", "test"):
        for language in ("en", "de"):
            split = SubwordModel.read(tmp_path / f"{language}.model").splitter()
            text = "".join(f"{split(line)}\n" for line in lines(corpus / f"text/{subset}.{language}"))
            (pieces / f"{subset}.{language}").write_text(text, encoding="utf-8")
    binarise(pieces, tmp_path / "data-bin")
    with pytest.raises(UserError, match=r"en.model splits only .* of 20 sentences as in "):
        assemble("--data", tmp_path / "data-bin", model=tmp_path / "en.model")
