"""Translations from elsewhere: what is accepted, what is refused with its line, and what a rerun does."""

import json

import pytest

from nmt_kd import cli
from nmt_kd.decoding.importing import import_translations
from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.errors import UserError

SOURCES = "one\ntwo\nthree\n"
PLAIN = "eins\nzwei\ndrei\n"
TSV = "one\teins\t-2\none\tein\t-1\ntwo\tzwei\t-0.5\nthree\tdrei\t0\n"
OBJECTS = [
    {"source": "one", "translations": ["eins", "ein"], "scores": [-2, -1.0]},
    {"source": "two", "translations": ["zwei"], "scores": [-0.5]},
    {"source": "three", "translations": ["drei"], "scores": [0]},
]
WINDOWS = TSV.replace("\n", "\r\n")
JSONL = "".join(json.dumps(each) + "\n" for each in OBJECTS)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8", newline="")
        return path

    return write


def imported(folder) -> list:
    found = in_order(ShardFolder(folder))
    return [(each.notes["text"], [(item.score, item.text) for item in each.hypotheses]) for each in found]


WITH_SCORES = [("one", [(-1.0, "ein"), (-2.0, "eins")]), ("two", [(-0.5, "zwei")]), ("three", [(0.0, "drei")])]


@pytest.mark.parametrize(("name", "content"), [("x.tsv", TSV), ("x.jsonl", JSONL), ("x.TSV", WINDOWS)])
def test_tables_and_json_become_lists_that_are_sorted_by_score(write, tmp_path, name, content, capsys):
    languages = ["--source-lang", "en", "--target-lang", "de"]
    words = ["import", write(name, content), *languages, "--output", tmp_path / "out", "--block-sentences", "2"]
    assert cli.main([str(word) for word in words]) == 0
    assert imported(tmp_path / "out") == WITH_SCORES
    assert capsys.readouterr().out == f"{tmp_path / 'out'} has 3 sentences with their translations\n"
    settings = ShardFolder(tmp_path / "out").settings()
    assert (settings["form"], settings["languages"], settings["sentences"]) == ("text", "en-de", 3)


def test_lists_without_scores_keep_their_order(write, tmp_path):
    text = "one\teins\none\tein\ntwo\tzwei\none\teins\n"
    import_translations([write("x.tsv", text)], tmp_path / "out", "en", "de")
    assert imported(tmp_path / "out") == [
        ("one", [(0.0, "eins"), (0.0, "ein")]),
        ("two", [(0.0, "zwei")]),
        ("one", [(0.0, "eins")]),  # not a neighbour of the first
    ]


def test_plain_text_is_parallel_to_its_sources(write, tmp_path):
    files = [write("a.de", "eins\nzwei\n"), write("b.de", " drei \n")]
    import_translations(files, tmp_path / "out", "en", "de", [write("all.en", SOURCES)], block_sentences=2)
    assert imported(tmp_path / "out") == [("one", [(0, "eins")]), ("two", [(0, "zwei")]), ("three", [(0, "drei")])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", "one\teins\ntwo\n", "x.tsv, line 2: 1 columns; a row is SOURCE, TAB, TRANSLATION and opt"),
        ("x.tsv", "a\tb\tc\td\n", "x.tsv, line 1: 4 columns"),
        ("x.tsv", "one\teins\t-1\none\tein\n", "x.tsv, line 2: some translations of this source have a score and"),
        ("x.tsv", "one\teins\tgood\n", "x.tsv, line 1: score 'good' is not a finite number; higher scores are b"),
        ("x.tsv", "one\teins\tnan\n", "x.tsv, line 1: score 'nan' is not a finite number"),
        ("x.tsv", "one\teins\n\teins\n", "x.tsv, line 2: empty source; remove it"),
        ("x.tsv", "one\t \n", "x.tsv, line 1: empty translation; remove it"),
        ("x.jsonl", JSONL + "{\n", "x.jsonl, line 4: not JSON"),
        ("x.jsonl", JSONL + "\n", "x.jsonl, line 4: not JSON"),
        ("x.jsonl", "[1]\n", 'x.jsonl, line 1: no text under "source"; a line is {"source": "...", "tra'),
        ("x.jsonl", '{"source": "a", "translations": "b"}\n', 'line 1: no list of texts under "translations"'),
        ("x.jsonl", '{"source": "a", "translations": []}\n', 'line 1: no list of texts under "translations"'),
        (
            "x.jsonl",
            '{"source": "a", "translations": ["b"], "scores": [1, 2]}\n',
            'line 1: "scores" is not a list',
        ),
        ("x.jsonl", '{"source": "a", "translations": ["b"], "scores": [true]}\n', "line 1: score True is not a finite"),
        ("x.jsonl", '{"source": "a", "translations": ["b"], "score": [1]}\n', 'line 1: unknown key "score"; give only'),
        ("x.jsonl", '{"source": "a", "translations": [""]}\n', "line 1: empty translation; remove it"),
        ("x.tsv", "one\t\u200b\ufeff\n", "x.tsv, line 1: empty translation; remove it"),
        ("x.jsonl", '{"source": "\\ud800 a", "translations": ["b"]}\n', "line 1: the source has half of a surrogate"),
        ("x.jsonl", "[" * 100000, "; a line is one JSON object"),
        ("x.jsonl", f'{{"source": "a", "translations": ["b"], "scores": [1{"0" * 400}]}}\n', "not a finite number"),
        ("x.jsonl", '{"source": " ", "translations": ["b"]}\n', "line 1: empty source; remove it"),
    ],
)
def test_a_line_that_does_not_fit_is_named_and_nothing_is_written(write, tmp_path, name, content, message):
    with pytest.raises(UserError) as error:
        import_translations([write(name, content)], tmp_path / "out", "en", "de")
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sources", "translations", "message"),
    [
        (
            SOURCES,
            "eins\nzwei\n",
            "x.de: 2 lines, but .*x.en: 3 lines; give files with one",
        ),
        (SOURCES, "eins\n\ndrei\n", "x.de, line 2: empty translation"),
        ("one\n\nthree\n", PLAIN, "x.en, line 2: empty source"),
    ],
)
def test_plain_text_that_is_not_parallel_is_refused(write, tmp_path, sources, translations, message):
    with pytest.raises(UserError, match=message):
        import_translations([write("x.de", translations)], tmp_path / "out", "en", "de", [write("x.en", sources)])
    assert not (tmp_path / "out").exists()


def test_files_whose_format_is_unclear_are_refused(write, tmp_path):
    tsv, plain = write("x.tsv", TSV), write("x.de", PLAIN)
    for files, options, message in (
        ([tsv, plain], {}, "the files are of several formats, plain and tsv; import them one by one"),
        ([plain], {}, "plain text needs the file that it translates; give it as --sources"),
    ):
        with pytest.raises(UserError, match=message):
            import_translations(files, tmp_path / "out", "en", "de", **options)


def test_tables_are_compared_with_the_sources_that_are_given(write, tmp_path):
    path = write("x.tsv", TSV)
    for sources, message in (
        (
            "one\nthree\ntwo\n",
            "x.en, line 2: does not match the source in the translations, 'two'; give the translations in the",
        ),
        (
            "one\ntwo\nthree\nfour\n",
            "x.en, line 4: has no translation; give the translations in the order of --sources",
        ),
        ("one\ntwo\n", "x.tsv: more sources than --sources has lines"),
    ):
        with pytest.raises(UserError, match=message):
            import_translations([path], tmp_path / "out", "en", "de", [write("x.en", sources)], block_sentences=2)
        assert not (tmp_path / "out").exists()
    import_translations([path], tmp_path / "out", "en", "de", [write("x.en", "one\n two\nthree\n")], block_sentences=2)
    assert imported(tmp_path / "out") == WITH_SCORES


def test_a_rerun_does_nothing_or_repairs_and_other_files_are_refused(write, tmp_path):
    path, out = write("x.tsv", TSV), tmp_path / "out"
    import_translations([path], out, "en", "de", block_sentences=2)
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in out.rglob("*.json*")}
    import_translations([path], out, "en", "de", block_sentences=2)
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in out.rglob("*.json*")} == before
    (out / "shards/0000001.jsonl").unlink()
    import_translations([path], out, "en", "de", block_sentences=2)
    assert {file: file.read_bytes() for file in out.rglob("*.json*")} == {
        file: text for file, (text, _) in before.items()
    }
    for content, languages, message in (
        (TSV.replace("zwei", "zwo"), ("en", "de"), "was made with translations '"),
        (
            TSV,
            ("en", "nl"),
            "was made with languages 'en-de', but this run has 'en-nl'; use the same .*--output",
        ),
    ):
        with pytest.raises(UserError, match=message):
            import_translations([write("x.tsv", content)], out, *languages, block_sentences=2)
