"""Copies of a corpus with noise or in other subwords, whatever the number of workers; of training data alone."""

import random
import re
import threading
from collections import Counter

import pytest
import sentencepiece
import subwords
from decoding.test_corpus import make_decoding, text_of, train_set  # noqa: F401  (a fixture)
from decoding.test_text_form import lines

from nmt_kd import cli
from nmt_kd.decoding import copies as copies_module
from nmt_kd.decoding import subword_sampling
from nmt_kd.decoding.copies import Copies, Counts
from nmt_kd.decoding.importing import import_translations
from nmt_kd.decoding.noise import Noise
from nmt_kd.decoding.subword_sampling import random_splitter
from nmt_kd.errors import UserError
from nmt_kd.subword_model import SubwordModel

KINDS = ("bpe", "unigram", "subword-nmt")


@pytest.fixture(scope="module")
def models(corpus, tmp_path_factory):
    """A subword model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    text = [corpus / f"text/train.{language}" for language in ("en", "de")]
    for kind in ("bpe", "unigram", "char"):
        subwords.train_subwords(text, folder / kind, 150 if kind == "unigram" else 200 if kind == "bpe" else 60, kind)
    subwords.learn_bpe(text, folder / "subword-nmt.model", 150, 1)
    return {path.stem: SubwordModel.read(path) for path in folder.glob("*.model")}


class EverySymbol:
    """A dictionary in which every symbol is."""

    def __contains__(self, symbol) -> bool:
        return True


EVERY_SYMBOL = EverySymbol()


@pytest.fixture
def copies(corpus, models, tmp_path):
    """Split the sources in one copy anew, and return the usual splits, the new ones, and the counts."""

    def copies(kind, alpha, known=EVERY_SYMBOL, number=2, workers=1, seed=1, noise=None):
        usual = [models[kind].splitter()(text) for text in lines(corpus / "text/train.en")]
        (tmp_path / "en").write_text("".join(f"{text}\n" for text in usual), encoding="utf-8")
        target = (corpus / "text/train.de").read_bytes()
        (tmp_path / "de").write_bytes(target)
        given = {"subword_sampling": alpha, "copies": number, "seed": seed}
        counts = Copies.open(models[kind], given, noise or {}).write(tmp_path / "en", tmp_path / "de", known, workers)
        assert (tmp_path / "de").read_bytes() == number * target
        assert sorted(path.name for path in tmp_path.iterdir()) == ["de", "en"]
        found = lines(tmp_path / "en")
        assert len(found) == number * len(usual)
        assert found[: len(usual)] == usual
        return usual, found[len(usual) :], counts

    return copies


@pytest.mark.parametrize("kind", KINDS)
def test_the_sentences_stay_the_same_in_every_split(kind, copies, models, corpus):
    _, drawn, _ = copies(kind, 0.3)
    assert list(map(models[kind].text, drawn)) == lines(corpus / "text/train.en")


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_decides_how_many_splits_change(kind, copies, models):
    numbers = []
    for alpha in (
        [0.05, 0.3, 0.9] if kind != "unigram" else [1, 0.3, 0.05]
    ):  # it flattens a unigram model's distribution
        usual, drawn, counts = copies(kind, alpha)
        words = sum(len(models[kind].text(text).split()) for text in usual)
        assert counts == Counts(len(usual), 0, 0, sum(map(str.__ne__, usual, drawn)), words, 0)
        assert counts.changed > len(usual) * 0.05
        numbers.append(sum(len(text.split()) for text in drawn))  # of subwords, since all sentences change in the end
    assert sum(len(text.split()) for text in usual) < numbers[0] < numbers[1] < numbers[2]


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_0_splits_as_usual(kind, copies):
    usual, drawn, counts = copies(kind, 0, number=3)
    assert drawn == 2 * usual
    assert counts.changed == counts.kept == 0


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_seeds_differ_and_workers_do_not(kind, copies):
    usual, drawn, _ = copies(kind, 0.3, number=4)
    parts = [drawn[first : first + len(usual)] for first in range(0, len(drawn), len(usual))]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert sum(map(str.__ne__, parts[one], parts[other])) > len(usual) / 4
    random.seed(7)
    for _ in range(5):  # what was drawn before does not matter
        sentencepiece.set_random_generator_seed(9)
        random.random()
    assert copies(kind, 0.3, number=4, workers=2)[1] == drawn
    assert copies(kind, 0.3, number=2)[1] == parts[0]
    assert copies(kind, 0.3, number=2, seed=2)[1] != parts[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_depends_on_nothing_but_the_sentence_and_its_place(kind, copies, models):
    _, drawn, _ = copies(kind, 0.3)
    draw = random_splitter(models[kind], 0.3)
    for number in (599, 3, 3, 250):
        text = models[kind].text(drawn[number])
        assert " ".join(draw(text, copies_module._seed(1, 1, number))) == drawn[number]


def test_a_seed_is_heeded_by_versions_of_sentencepiece_that_seed_only_new_threads(copies, monkeypatch):
    _, drawn, _ = copies("bpe", 0.3)

    class OfAnEarlierVersion:
        seeded = False

        def __getattr__(self, name):
            return getattr(sentencepiece, name)

        def set_random_generator_seed(self, seed):
            is_main = threading.current_thread() is threading.main_thread()
            if not (is_main and self.seeded):
                sentencepiece.set_random_generator_seed(seed)
            self.seeded |= is_main

    monkeypatch.setattr(subword_sampling, "sentencepiece", OfAnEarlierVersion())
    assert copies("bpe", 0.3)[1] == drawn


@pytest.mark.parametrize("kind", KINDS)
def test_words_with_subwords_that_the_dictionary_lacks_are_split_as_usual(kind, copies, models):
    usual, drawn, _ = copies(kind, 0.3)
    before, after = (Counter(" ".join(texts).split()) for texts in (usual, drawn))
    missing, _ = (after - before).most_common(1)[0]
    _, drawn, counts = copies(kind, 0.3, {*before, *after} - {missing})
    assert Counter(" ".join(drawn).split())[missing] <= before[missing]
    assert 0 < counts.kept < counts.words
    assert counts.changed
    _, nothing, counts = copies(kind, 0.3, set())
    assert nothing == usual
    assert counts.changed == 0
    assert counts.kept == counts.words


@pytest.mark.parametrize("alpha", [0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_copies_with_noise_have_the_text_that_the_noise_makes_of_each_source(kind, alpha, copies, models):
    given = {"noise_upper_case": 0.3, "noise_typos": 0.4, "noise_no_final_stop": 0.5}
    usual, noisy, counts = copies(kind, alpha, number=3, noise=given)
    noise = Noise(**given)
    clean = list(map(models[kind].text, usual))
    for copy, found in ((1, noisy[: len(usual)]), (2, noisy[len(usual) :])):
        numbers = range(len(usual))
        expected = [noise(clean[number], copies_module._seed(1, copy, number), number) for number in numbers]
        assert list(map(models[kind].text, found)) == expected
        if not alpha:
            assert found == list(map(models[kind].splitter(), expected))
    assert counts.noisy == sum(map(str.__ne__, map(models[kind].text, noisy), 2 * clean))
    assert 0.6 < counts.noisy / len(noisy) < 0.85
    assert bool(counts.changed) == bool(alpha)
    assert noisy[: len(usual)] != noisy[len(usual) :]
    assert copies(kind, alpha, number=3, workers=2, noise=given) == (usual, noisy, counts)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_that_the_dictionary_cannot_spell_is_left_out(kind, copies):
    usual, noisy, _ = copies(kind, 0, noise={"noise_upper_case": 0.5})
    known = {symbol for text in usual for symbol in text.split()}
    expected = [new if set(new.split()) <= known else old for new, old in zip(noisy, usual, strict=True)]
    _, found, counts = copies(kind, 0, known, noise={"noise_upper_case": 0.5})
    assert found == expected
    assert counts.unspellable == sum(map(str.__ne__, noisy, expected)) > 0
    assert counts.noisy == sum(map(str.__ne__, expected, usual))


def test_a_source_with_an_unknown_symbol_has_no_noise(models, tmp_path):
    source, target = tmp_path / "en", tmp_path / "de"
    usual = models["bpe"].splitter()("the yellow house") + " ▁ <unk>"
    source.write_text(f"{usual}\n", encoding="utf-8")
    target.write_text("x\n", encoding="utf-8")
    noise = {"noise_typos": 1, "noise_upper_case": 1}
    Copies.open(models["bpe"], {"copies": 2}, noise).write(source, target, EVERY_SYMBOL)
    assert source.read_text(encoding="utf-8") == f"{usual}\n{usual}\n"


def test_a_word_with_an_unknown_symbol_stays(models, tmp_path):
    source, target = tmp_path / "en", tmp_path / "de"
    usual = models["bpe"].splitter()("the red house")
    source.write_text(f"{usual} ▁<unk> <unk>\n\n", encoding="utf-8")
    target.write_text("x\n\n", encoding="utf-8")
    Copies.open(models["bpe"], {"subword_sampling": 1, "copies": 2}, {}).write(source, target, EVERY_SYMBOL)
    assert source.read_text(encoding="utf-8").split("\n")[2:] == ["▁ t h e ▁ r e d ▁ h o u s e ▁<unk> <unk>", "", ""]


@pytest.fixture
def assemble(data, corpus, tmp_path, capsys):
    """Assemble from a folder, and return both sides of the corpus and what was printed."""

    def assemble(folder, *flags, model=corpus / "pieces/subwords.model"):
        words = ["assemble", folder, "--data", data, "--output", tmp_path / "out"]
        cli.main([str(word) for word in [*words, *(["--subword-model", model] if model else []), *flags]])
        sides = [lines(tmp_path / f"out/text/train.{language}") for language in ("en", "de")]
        return *sides, capsys.readouterr().out

    return assemble


@pytest.mark.parametrize("parts", ["kd", "base+kd"])
def test_a_decoding_in_subwords_is_split_anew(parts, assemble, data, train_set, corpus, tmp_path):  # noqa: F811
    folder = make_decoding(tmp_path / "kd", train_set)
    count = 600 * (1 + parts.count("+"))
    usual, targets, printed = assemble(folder, "--corpus", parts)
    assert "split differently" not in printed
    flags = ["--corpus", parts, "--subword-sampling", "0.3", "--copies", "3"]
    sources, all_targets, printed = assemble(folder, *flags)
    assert sources[:count] == usual == (1 + parts.count("+")) * [source for source, _ in text_of(train_set)]
    assert all_targets == 3 * targets
    joined = SubwordModel.read(corpus / "pieces/subwords.model").text
    assert list(map(joined, sources)) == 3 * list(map(joined, usual))
    changed = sum(map(str.__ne__, sources, 3 * usual))
    assert changed > count
    assert f"split differently: {changed:,} of {2 * count:,} sources of the copies" in printed
    assert f"wrote {3 * count:,} pairs" in printed
    assert assemble(folder, *flags, "--workers", "2") == (sources, all_targets, printed)
    for split in ("valid", "test"):
        for file in data.glob(f"{split}.*"):
            assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()
    symbols = {line.split(" ")[0] for line in lines(data / "dict.en.txt")}
    assert {symbol for source in sources for symbol in source.split(" ")} <= symbols


def test_noise_changes_the_sources_of_copies_alone(assemble, corpus, train_set, tmp_path):  # noqa: F811
    folder = make_decoding(tmp_path / "kd", train_set)
    usual, targets, _ = assemble(folder)
    sources, all_targets, printed = assemble(folder, "--noise-no-final-stop", "1", "--copies", "2")
    assert sources[:600] == usual
    assert all_targets == 2 * targets
    text = SubwordModel.read(corpus / "pieces/subwords.model").text
    with_stop, without = (list(map(text, half)) for half in (sources[:600], sources[600:]))
    assert without == [one[:-1].rstrip() if one.endswith(".") else one for one in with_stop]
    noisy = sum(map(str.__ne__, without, with_stop))
    assert noisy > 100
    assert f"\nwith noise: {noisy} of 600 sources of the copies\n" in printed
    assert "split" not in printed
    _, _, printed = assemble(folder, "--noise-typos", "0.5", "--subword-sampling", "0.1", "--copies", "2")
    assert re.search(r"^with noise: \d+ of.*\nwithout noise.*\nsplit differently: \d+ of", printed, re.MULTILINE)


def test_a_folder_of_text_is_split_anew(assemble, corpus, tmp_path):
    words = [[corpus / "text/test.de"], tmp_path / "text", "en", "de"]
    import_translations(*words, sources=[corpus / "text/test.en"])
    usual, _, _ = assemble(tmp_path / "text")
    sources, _, _ = assemble(tmp_path / "text", "--subword-sampling", "0.5")
    assert sources[:13] == usual
    assert len(sources) == 4 * 13
    assert len(set(sources)) > 3 * 13


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--subword-sampling", "1.5"], "--subword-sampling is 1.5; it must be from 0 to 1"),
        (["--subword-sampling", "nan"], "--subword-sampling is nan; it must be from 0 to 1"),
        (["--subword-sampling", "0.1", "--copies", "1"], "--copies is 1; it must be 2 or more"),
        (["--noise-typos", "1.5"], "--noise-typos is 1.5; it must be from 0 to 1"),
        (["--noise-typos", "0.1", "--copies", "1"], "--copies is 1; it must be 2 or more"),
        (["--copies", "3"], "--copies is for copies with --subword-sampling or noise; give one of these"),
        (["--seed", "3"], "--seed is for copies with --subword-sampling or noise; give one of these"),
    ],
)
def test_wrong_values_are_refused(flags, message, assemble, train_set, tmp_path):  # noqa: F811
    folder = make_decoding(tmp_path / "kd", train_set, blocks=[])
    with pytest.raises(UserError, match=message):
        assemble(folder, *flags)


def test_models_that_cannot_sample_are_refused(assemble, models, train_set, tmp_path):  # noqa: F811
    folder = make_decoding(tmp_path / "kd", train_set, blocks=[])
    with pytest.raises(
        UserError, match="--subword-sampling needs the model that split the data; give it as --subword-m"
    ):
        assemble(folder, "--subword-sampling", "0.1", model=None)
    with pytest.raises(UserError, match="noise needs the model that split the data; give it as --subword-model"):
        assemble(folder, "--noise-typos", "0.1", model=None)
    with pytest.raises(
        UserError, match=r"char.model splits into words or characters, which is possible in one way only"
    ):
        Copies.open(models["char"], {"subword_sampling": 0.1}, {})
