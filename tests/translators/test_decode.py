"""Decoding text files: what is stored, what it survives, what it refuses."""

import json
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from tasks.test_seq_kd import contents, undisturbed  # noqa: F401  (a fixture)
from tasks.test_seq_kd import decode as decode_binarised
from worker import Worker

from nmt_kd import cli
from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.decoding.noise import Noise
from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.shards import Hypothesis, ShardFolder
from nmt_kd.decoding.text_files import Line, TextFiles
from nmt_kd.errors import UserError
from nmt_kd.translators import decode, opening
from nmt_kd.translators.decode import SourceRules, decode_block
from nmt_kd.translators.search import Search
from nmt_kd.translators.translator import TeacherOptions
from translators.teachers import SEARCH, lines, write


@pytest.fixture(scope="session")
def arguments(corpus, data, seq_kd_teacher):
    """The command that decodes the validation and test sentences into a folder."""

    def arguments(out, *more):
        teacher = ["--teacher", seq_kd_teacher, "--data", data, "--subword-model", corpus / "pieces/subwords.model"]
        sources = ["--sources", corpus / "text/valid.en", corpus / "text/test.en"]
        search = ["--beam", "3", "--nbest", "2", "--lenpen", "0.6", "--max-len", "30", "--max-tokens", "500"]
        command = ["decode", *teacher, *sources, *search, "--block-sentences", "4", "--output", out, *more]
        return [str(word) for word in command]

    return arguments


@pytest.fixture(scope="session")
def decoded(arguments, tmp_path_factory):
    out = tmp_path_factory.mktemp("decoded") / "text"
    cli.main(arguments(out))
    return out


def test_a_fairseq_checkpoint_finds_what_seq_kd_finds_as_text(decoded, corpus, data, seq_kd_teacher, tmp_path):
    found = list(in_order(ShardFolder(decoded)))
    sources = lines(corpus / "text/valid.en") + lines(corpus / "text/test.en")
    assert [sentence.notes["text"] for sentence in found] == sources
    expected = []
    for subset in ("valid", "test"):
        decode_binarised(data, tmp_path / subset, seq_kd_teacher, "--gen-subset", subset)
        expected += in_order(ShardFolder(tmp_path / subset))
    same = 0
    for ours, theirs in zip(found, expected, strict=True):
        texts = [item.text.replace(" ", "").replace("\u2581", " ").strip() for item in theirs.hypotheses]
        same += [item.text for item in ours.hypotheses] == texts
    assert same >= len(sources) - 1  # batches differ, and with them the last bits of scores
    assert [item.score for item in found[0].hypotheses] == pytest.approx(
        [item.score for item in expected[0].hypotheses], abs=1e-4
    )


def test_the_manifest_says_that_it_is_text_and_of_what(decoded, corpus, seq_kd_teacher):
    settings = json.loads((decoded / "manifest.json").read_text())
    files = [corpus / "text/valid.en", corpus / "text/test.en"]
    assert settings["form"] == "text"
    assert settings["languages"] == "en-de"
    assert settings["sources"] == "+".join(map(file_hash, files))
    assert settings["source_files"] == [str(path) for path in files]
    assert (settings["sentences"], settings["block_sentences"]) == (33, 4)
    assert (settings["teacher"], settings["teacher_kind"]) == (file_hash(seq_kd_teacher), "fairseq")
    assert (settings["beam"], settings["nbest"], settings["lenpen"], settings["max_len"]) == (3, 2, 0.6, 30)


def test_workers_that_are_killed_and_change_in_number_give_the_same_files(arguments, decoded, tmp_path):
    out, log = tmp_path / "text", tmp_path / "log"
    for workers, blocks_before_the_kill in ((1, 1), (2, 4), (3, 6)):
        running = [
            Worker(cli.main, arguments(out, "--num-shards", workers, "--shard-id", worker), log)
            for worker in range(workers)
        ]
        deadline = time.monotonic() + 60
        while len(contents(out)) < blocks_before_the_kill and time.monotonic() < deadline:
            time.sleep(0.005)
        for worker in running:
            worker.kill()
    cli.main(arguments(out))
    assert contents(out) == contents(decoded)
    assert (out / "manifest.json").read_bytes() == (decoded / "manifest.json").read_bytes()


def test_two_workers_share_the_blocks_and_torchruns_variables_choose_one(arguments, decoded, tmp_path, monkeypatch):
    out = tmp_path / "text"
    cli.main(arguments(out, "--num-shards", "2", "--shard-id", "1"))
    assert sorted(contents(out)) == [f"{block:07}.jsonl" for block in (1, 3, 5, 7)]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    cli.main(arguments(out))
    assert contents(out) == contents(decoded)


def test_other_sources_another_teacher_or_another_search_is_refused(arguments, decoded, corpus, teacher_path):
    before = contents(decoded)
    for flags, message in (
        (["--beam", "4"], "beam 3, but this run has 4; use the same settings to resume, or another --output"),
        (["--nbest", "1"], "nbest 2, but this run has 1"),
        (["--teacher", teacher_path], "teacher '"),
        (["--sources", corpus / "text/test.en"], "sources '"),
        (["--sources", corpus / "text/test.en", corpus / "text/valid.en"], "sources '"),
        (["--too-long", "skip"], "too_long 'error', but this run has 'skip'"),
    ):
        with pytest.raises(UserError, match=f"was made with {message}"):
            cli.main(arguments(decoded, *flags))
    assert contents(decoded) == before


def test_samples_depend_on_the_seed_and_not_on_the_workers(arguments, tmp_path):
    search = ["--nbest", "2", "--lenpen", "1", "--max-len", "20"]

    def sample(name, *flags):
        words = [str(word) for word in arguments(tmp_path / name, *search, "--sampling-topk", "5", *flags)]
        place = words.index("--beam")
        cli.main(words[:place] + words[place + 2 :])
        return contents(tmp_path / name)

    once = sample("once", "--seed", "3")
    sample("two", "--seed", "3", "--num-shards", "2", "--shard-id", "1")
    assert sample("two", "--seed", "3", "--num-shards", "2", "--shard-id", "0") == once
    assert sample("other", "--seed", "4") != once


class Upper:
    """Shouts. A token is a word."""

    languages, longest_source, settings, counts = ("en", "EN"), 4, {"teacher": "shouter"}, {"heard": 1}

    def length(self, source):
        return len(source.split())

    def translate(self, sources, seed):
        return [[Hypothesis(-1.0, source.upper())] for source in sources]


@pytest.fixture
def shouting(monkeypatch):
    monkeypatch.setattr(decode, "open_translator", lambda options: Upper())


TEXT = ["one two", "", "one two three four five", "\ufeffone\u2028two \r"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("skip", None), ("truncate", "ONE TWO THREE FOUR")],
)
def test_empty_lines_and_long_lines_are_counted_and_kept_out_or_cut(shouting, tmp_path, mode, expected, caplog):
    sources = write(tmp_path / "text.en", TEXT)
    decode.decode_text(TeacherOptions("x"), [sources], tmp_path / "out", empty="skip", too_long=mode)
    found = list(in_order(ShardFolder(tmp_path / "out")))
    texts = [sentence.hypotheses[0].text if sentence.hypotheses else None for sentence in found]
    assert texts[:3] == ["ONE TWO", None, expected]
    assert [sentence.notes["text"] for sentence in found][1:3] == TEXT[1:3]
    assert "empty lines, skipped: 1" in caplog.text
    assert f"lines longer than 4 tokens, {'cut' if expected else 'skipped'}: 1" in caplog.text
    assert "heard: 1" in caplog.text


def test_the_teacher_translates_sources_with_noise_and_they_become_the_students(shouting, tmp_path):
    sources = write(tmp_path / "text.en", ["one.", "two.", "three."])
    noise = Noise(noise_no_final_stop=1, noise_title_case=1)
    for size in (3, 2):  # of blocks; the noise does not depend on it
        decode.decode_text(TeacherOptions("x"), [sources], tmp_path / f"out{size}", block_sentences=size, noise=noise)
        found = list(in_order(ShardFolder(tmp_path / f"out{size}")))
        assert [sentence.notes["text"] for sentence in found] == ["One", "Two", "Three"]
        assert [sentence.hypotheses[0].text for sentence in found] == ["ONE", "TWO", "THREE"]
    with pytest.raises(UserError, match="noise"):
        decode.decode_text(TeacherOptions("x"), [sources], tmp_path / "out2", block_sentences=2)
    with pytest.raises(UserError, match="--noise-typos is 2; it must be from 0 to 1"):
        decode.decode_text(TeacherOptions("x"), [sources], tmp_path / "out", noise=Noise(noise_typos=2))


def test_lines_are_as_long_as_the_teacher_reads_them(monkeypatch, tmp_path):
    class CountsCapitals(Upper):
        def length(self, source):
            return sum(map(str.isupper, source))

    monkeypatch.setattr(decode, "open_translator", lambda options: CountsCapitals())
    sources = write(tmp_path / "text.en", ["one", "three", "four"])
    for word in ("error", "skip"):
        decode.decode_text(TeacherOptions("x"), [sources], tmp_path / word, too_long=word)
    shouted = Noise(noise_upper_case=1)
    with pytest.raises(UserError, match=r"text\.en, line 2: longer than the 4 tokens that the teacher reads"):
        decode.decode_text(TeacherOptions("x"), [sources], tmp_path / "noise", noise=shouted)
    assert not (tmp_path / "noise").exists()
    decode.decode_text(TeacherOptions("x"), [sources], tmp_path / "noise", too_long="skip", noise=shouted)
    found = list(in_order(ShardFolder(tmp_path / "noise")))
    assert [[item.text for item in sentence.hypotheses] for sentence in found] == [["ONE"], [], ["FOUR"]]


@pytest.mark.parametrize("line", ["", " ", "\u200b", "\ufeff\u00ad", "\x01\t"])
def test_a_line_with_nothing_to_see_is_empty(shouting, tmp_path, line):
    sources = write(tmp_path / "text.en", ["one", line])
    with pytest.raises(UserError, match=r"text\.en, line 2: empty"):
        decode.decode_text(TeacherOptions("x"), [sources], tmp_path / "out")
    decode.decode_text(TeacherOptions("x"), [sources], tmp_path / "out", empty="skip")
    assert [len(sentence.hypotheses) for sentence in in_order(ShardFolder(tmp_path / "out"))] == [1, 0]


@pytest.mark.parametrize("text", ["\ufdfa", "\uac00\u0390", "\u0130\u00df", "a" * 50])
def test_no_normalisation_makes_more_tokens_than_counted(text):
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    forms |= {form.casefold() for form in forms} | {form.lower() for form in forms}
    assert max(len(form.encode()) for form in forms) + 3 <= decode.most_tokens(text) <= 11 * len(text.encode()) + 3


@pytest.mark.parametrize(
    ("rules", "line", "message"),
    [
        ({}, 2, "empty; correct it, or choose what to do with --empty-lines skip"),
        ({"empty": "skip"}, 3, "longer than the 4 tokens that the teacher reads; .* --too-long skip or truncate"),
    ],
)
def test_lines_that_cannot_be_translated_are_named_before_anything_is_decoded(shouting, tmp_path, rules, line, message):
    sources = write(tmp_path / "text.en", TEXT)
    with pytest.raises(UserError, match=f"text.en, line {line}: {message}"):
        decode.decode_text(TeacherOptions("x"), [sources], tmp_path / "out", **rules)
    assert not (tmp_path / "out").exists()


def test_a_cut_source_is_as_long_as_the_teacher_reads():
    rules = SourceRules(len, 7, "skip", "truncate")
    assert rules.readable("0123456789") == "0123456"
    assert rules.readable("0123456") == "0123456"
    assert replace(rules, too_long="skip").readable("0123456789") is None


def test_normalisation_can_make_a_short_line_too_long():
    """NFKC makes 18 characters of this one, which has 3 bytes."""
    rules = SourceRules(lambda text: len(unicodedata.normalize("NFKC", text)) + 1, 10, too_long="skip")
    rules.check(Line("\ufdfa", Path("text.ar"), 1))
    assert rules.long_lines == 1


def test_a_teacher_that_loses_a_sentence_is_not_believed():
    class Loses(Upper):
        def translate(self, sources, seed):
            return super().translate(sources, seed)[1:]

    with pytest.raises(UserError, match="the teacher returned 1 translations of 2 sentences"):
        decode_block(Loses(), SourceRules(len, 9), ["a", "b"], 0, 1)


def test_one_file_adds_a_kind_of_teacher(tmp_path, monkeypatch):
    (tmp_path / "reversing.py").write_text(
        "WHAT, USES = 'something reversed', ()\n"
        "def recognises(teacher): return teacher == 'reversed'\n"
        "def open_teacher(options): return 'a teacher'\n"
    )
    monkeypatch.setattr(opening.translators, "__path__", [*opening.translators.__path__, str(tmp_path)])
    assert opening.open_translator(TeacherOptions("reversed")) == "a teacher"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"teacher": "no/such/folder/"},
            "no/such/folder/ is not a teacher that nmt-kd can use; give one of",
        ),
        (
            {"teacher": "no/such/file.pt", "data": "DATA", "subword_model": "MODEL"},
            "no/such/file.pt does not exist",
        ),
        ({}, "the dictionaries of .* are needed; give the folder that has them as --data"),
        ({"data": "DATA"}, "the subword model of .* is needed; give it as --subword-model"),
        ({"data": "DATA", "subword_model": "MODEL", "source_lang": "fr"}, "translates en-de, not fr-de; name the"),
        ({"data": "DATA", "subword_model": "MODEL", "compute_type": "int8"}, "--compute-type is int8; it must be def"),
        ({"data": "DATA", "subword_model": "MODEL", "compute_type": "float16"}, "float16 needs a GPU"),
        ({"max_tokens": 0}, "--max-tokens is 0; it must be 1 or more"),
        ({"max_source_len": 0}, "--max-source-len is 0; it must be 1 or more"),
        ({"search": replace(SEARCH, beam=0)}, "--beam is 0; it must be 1 or more"),
        ({"search": replace(SEARCH, nbest=4)}, "--nbest is 4; it must be from 1 to 3, since --beam is 3"),
        ({"search": Search(sampling_topk=2, nbest=0)}, "--nbest is 0; it must be 1 or more"),
        ({"search": replace(SEARCH, sampling_topk=2)}, "--beam is 3; it must be left out, since --sampling-topk samp"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message, seq_kd_teacher, corpus, data):
    paths = {"DATA": str(data), "MODEL": corpus / "pieces/subwords.model"}
    given = {name: paths.get(value, value) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(UserError, match=message):
        opening.open_translator(TeacherOptions(**{"teacher": str(seq_kd_teacher), **given}))


def test_only_the_places_of_blocks_are_kept_in_memory(tmp_path):
    text = TextFiles([write(tmp_path / "text.en", map(str, range(1000)))], 300)
    assert (text.sizes, len(text._starts)) == ([300, 300, 300, 100], 4)
    assert [record[0].text for record in text.block(3)] == [str(number) for number in range(900, 1000)]
