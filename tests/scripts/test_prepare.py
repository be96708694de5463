"""Preparing WMT and IWSLT from small archives with the layout of the published ones."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from argparse import Namespace
from functools import partial
from operator import neg
from pathlib import Path

import corpora
import moses
import parallel
import pytest
import torch
from conftest import ROOT, run_command
from fairseq.data import Dictionary, data_utils

from nmt_kd.checkpoints.reading import read_checkpoint_file

WORDS = {
    "en": "the old train leaves for a small town in the morning and comes back at night with many people".split(),
    "de": "der alte Zug fährt am Morgen in eine kleine Stadt und kommt in der Nacht mit vielen Leuten zurück".split(),
    "fr": "le vieux train part le matin pour une petite ville et revient la nuit avec beaucoup de monde".split(),
    "ro": "trenul vechi pleacă dimineaţa spre un oraș mic şi se întoarce noaptea cu mulți oameni".split(),
}


def sentence(language, name, number):
    """Return a unique sentence, which shares its name and number with its translation."""
    words = WORDS[language]
    return " ".join(["", name, str(number), *(words[(number * step) % len(words)] for step in range(1, 9))]).strip()


def corpus_lines(name, size, languages, faults=()):
    """Return parallel lines in each language, with those of `faults` inserted."""
    lines = {language: [sentence(language, name, number) for number in range(size)] for language in languages}
    for position, pair in faults:
        for language, line in zip(languages, pair, strict=True):
            lines[language].insert(position, line)
    return lines


def plain(lines):
    return "".join(line + "\n" for line in lines).encode()


def sgm(lines, language, kind="ref"):
    segments = "\n".join(f'<seg id="{number}"> {line} </seg>' for number, line in enumerate(lines, 1))
    head = f'<{kind}set setid="newstest" srclang="any" trglang="{language}">\n<doc docid="a" origlang="en">\n<p>\n'
    return f"{head}{segments}\n</p>\n</doc>\n</{kind}set>\n".encode()


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


FAULTS = [  # two for each reason to drop a pair
    (10, ("", "commoncrawl Leer")),
    (20, ("Empty commoncrawl", " \t ")),
    (30, ("a " * 251, "b " * 251)),
    (40, ("a " * 251, "b " * 30)),
    (50, ("a", "b " * 10)),
    (60, ("a " * 19, "b b")),
]
# characters that other readers take for the end of a line, and other oddities of crawled text
UNPLEASANT = [
    (5, ("one\u2028two \x85 three\x00 four\x0bfive\x1cone six\rseven", "eins\x0czwei\u200bdrei vier\u00adfünf sechs"))
]


@pytest.fixture(scope="module")
def wmt14(tmp_path_factory):
    """A folder with the WMT14 archives for English-German and English-French, and the lines in them."""
    folder = tmp_path_factory.mktemp("wmt14")
    texts = {
        "europarl": corpus_lines("europarl", 120, ("en", "de")),
        "commoncrawl": corpus_lines("commoncrawl", 120, ("en", "de"), [*UNPLEASANT, *FAULTS]),
        "news": corpus_lines("news", 60, ("en", "de")),
        "newstest2013": corpus_lines("valid", 30, ("en", "de"), [(7, ("", "")), (9, ("a", "b" + " b" * 299))]),
        "newstest2014": corpus_lines("test", 21, ("en", "de"), [(3, ("R&amp;D &lt;b&gt; &quot;x&quot;", "F&amp;E"))]),
    }
    french = {name: corpus_lines(name, 5, ("en", "fr")) for name in ("europarl", "crawl", "un", "news", "giga", "test")}
    by_pair = {"de-en": texts, "fr-en": french}
    members = {
        "training-parallel-europarl-v7.tgz": {"training/europarl-v7.{pair}.{language}": "europarl"},
        "training-parallel-nc-v9.tgz": {"training/news-commentary-v9.{pair}.{language}": "news"},
    }
    for archive, patterns in members.items():
        ((pattern, name),) = patterns.items()
        write_tar(
            folder / archive,
            {
                pattern.format(pair=pair, language=language): plain(lines)
                for pair, corpora_of_pair in by_pair.items()
                for language, lines in corpora_of_pair[name].items()
            },
        )
    crawl = {f"./commoncrawl.de-en.{language}": plain(lines) for language, lines in texts["commoncrawl"].items()}
    crawl |= {f"./commoncrawl.fr-en.{language}": plain(lines) for language, lines in french["crawl"].items()}
    crawl["./commoncrawl.de-en.annotation"] = b"no sentence\n"
    write_tar(folder / "training-parallel-commoncrawl.tgz", crawl)
    un = {f"un/undoc.2000.fr-en.{language}": plain(lines) for language, lines in french["un"].items()}
    write_tar(folder / "training-parallel-un.tgz", un)
    giga = {
        f"giga-fren.release2.fixed.{language}.gz": gzip.compress(plain(french["giga"][language]))
        for language in french["giga"]
    }
    write_tar(folder / "training-giga-fren.tar", giga)
    valid = {**texts["newstest2013"], "fr": [f"fr {number}" for number in range(32)]}
    write_tar(
        folder / "dev.tgz",
        {
            f"dev/newstest2013-{side}.{language}.sgm": sgm(lines, language, side)
            for language, lines in valid.items()
            for side in ("src", "ref")
        },
    )
    test = {}
    for pair, lines in (("deen", texts["newstest2014"]), ("fren", french["test"])):
        for language in lines:
            for side in ("src", "ref"):
                test[f"test-full/newstest2014-{pair}-{side}.{language}.sgm"] = sgm(lines[language], language, side)
    write_tar(folder / "test-full.tgz", test)
    return folder, texts, french


@pytest.fixture(scope="module")
def iwslt14(tmp_path_factory):
    """A folder with the IWSLT14 archive, and the lines in it."""
    folder = tmp_path_factory.mktemp("iwslt14")
    train = corpus_lines(
        "talk", 100, ("de", "en"), [(4, ("", "")), (5, ("a " * 20, "b")), (6, ("a " * 176, "b " * 176))]
    )
    members = {}
    for language, lines in train.items():
        head = ["<url>http://talks/1</url>", "<keywords>talks, trains</keywords>", "<talkid>1</talkid>"]
        title = [f"<title>Talk 0: {language} </title>", f"<description>Talk About trains in {language}</description>"]
        content = [*head, *title, *(f" {line} " for line in lines[:50]), *head, *title, *lines[50:]]
        members[f"de-en/train.tags.de-en.{language}"] = plain(content)
    tests = {}
    for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"):
        tests[name] = corpus_lines(f"{name} It\u2019s &amp;", 4, ("de", "en"))
        for language, lines in tests[name].items():
            members[f"de-en/IWSLT14.{name}.de-en.{language}.xml"] = b'<?xml version="1.0"?>\n' + sgm(lines, language)
    write_tar(folder / "de-en.tgz", members)
    return folder, train, tests


def prepare(data, folder, runs, *arguments, **environment):
    source = ["--from", folder] if folder else []
    environment = {"NMT_KD_RUNS": str(runs), "WORKERS": "1", **environment}
    return run_command("bash", ROOT / "scripts/prepare.sh", data, *source, *arguments, environment=environment)


def read(folder, split, *languages):
    """Return the pairs of lines, or for one language just the lines."""
    lines = [(folder / f"{split}.{language}").read_bytes().decode().split("\n")[:-1] for language in languages]
    return list(zip(*lines, strict=True)) if len(lines) > 1 else lines[0]


def names_of(pairs):
    """Return the names given to the sentences of each pair, which must be the same on both sides."""
    found = [tuple(re.findall(r"^\S+ \d+", side)[0] for side in pair) for pair in pairs]
    assert all(source == target for source, target in found)
    return [source for source, _ in found]


def check_binarised(work, languages, splits):
    """Check that fairseq reads the folder and finds every line of the subwords in it, in order."""
    dictionary = Dictionary.load(str(work / f"data-bin/dict.{languages[0]}.txt"))
    pair = "-".join(languages)
    for split in splits:
        for language in languages:
            dataset = data_utils.load_indexed_dataset(str(work / f"data-bin/{split}.{pair}.{language}"), dictionary)
            lines = [line.split() for line in read(work / "subwords", split, language)]
            known = [" ".join(word if word in dictionary else "<unk>" for word in words) for words in lines]
            assert [dictionary.string(line) for line in dataset] == known
            assert [line.replace("@@ ", "") for line in read(work / "subwords", split, language)] == read(
                work / "tokens", split, language
            )


def test_wmt_is_prepared_from_its_archives_step_by_step(wmt14, tmp_path):
    folder, texts, _ = wmt14
    work = tmp_path / "wmt14_en_de"
    made: dict[Path, int] = {}
    for step in ("text", "tokens", "subwords", "data-bin"):
        (work / f"{step}.partial").mkdir(parents=True)  # as left by a run that was killed during this step
        (work / f"{step}.partial/train.en").write_text("half a li")
        result = prepare("wmt14_en_de", folder, tmp_path, "--until", step)
        assert result.returncode == 0, result.stderr
        assert made == {path: path.stat().st_mtime_ns for path in made}  # complete steps are not repeated
        made |= {path: path.stat().st_mtime_ns for path in (work / step).iterdir()}
        assert {path.name for path in work.glob("[!.]*")} - {"binarise.log"} == {path.parent.name for path in made}
    again = prepare("wmt14_en_de", tmp_path / "gone", tmp_path)
    assert (again.returncode, again.stdout) == (0, "")

    train = [pair for name in ("europarl", "commoncrawl", "news") for pair in zip(*texts[name].values(), strict=True)]
    plain_train = read(work / "text", "train", "en", "de")
    assert plain_train == [tuple(side.replace("\r", " ") for side in pair) for pair in train]
    assert read(work / "text", "valid", "en", "de") == list(zip(*texts["newstest2013"].values(), strict=True))
    assert read(work / "text", "test", "en", "de")[3] == ('R&D <b> "x"', "F&E")

    tokens = read(work / "tokens", "train", "en", "de")
    unpleasant = ("one two three four five one six seven", "eins zwei drei vier fünf sechs")
    assert tokens.count(unpleasant) == 1
    tokens.remove(unpleasant)
    assert names_of(tokens) == [
        f"{name} {n}" for name, size in (("europarl", 120), ("commoncrawl", 120), ("news", 60)) for n in range(size)
    ]
    counts = json.loads((work / "tokens/counts.json").read_text())
    assert counts == {
        "train": {"pairs": 301, "empty": 2, "too_long": 2, "too_different": 2},
        "valid": {"pairs": 32},
        "test": {"pairs": 22},
    }
    valid = read(work / "tokens", "valid", "en", "de")
    assert [valid.pop(9), valid.pop(7)] == [("a", "b" + " b" * 299), ("", "")]
    assert names_of(valid) == [f"valid {number}" for number in range(30)]
    test = read(work / "tokens", "test", "en", "de")
    assert test.pop(3) == ("R &amp; D &lt; b &gt; &quot; x &quot;", "F &amp; E")
    assert names_of(test) == [f"test {number}" for number in range(21)]
    check_binarised(work, ("en", "de"), ("train", "valid", "test"))


def test_iwslt_is_prepared_as_in_fairseqs_example(iwslt14, tmp_path):
    folder, _, _ = iwslt14
    result = prepare("iwslt14_de_en", folder, tmp_path, WORKERS="2")
    assert result.returncode == 0, result.stderr
    work = tmp_path / "iwslt14_de_en"
    text = read(work / "text", "train", "de", "en")
    assert len(text) == 107
    assert text[:2] == [("Talk 0: de", "Talk 0: en"), ("Talk About trains in de", "Talk About trains in en")]
    clean = [pair for pair in text if not pair[0].startswith(("a ", "Talk")) and pair != ("", "")]
    titles = [("talk 0 : de", "talk 0 : en"), ("talk about trains in de", "talk about trains in en")]
    expected = [*titles, *clean[:47], *titles, *clean[47:]]
    expected = [tuple(side.lower() for side in pair) for pair in expected]
    assert read(work / "tokens", "valid", "de", "en") == expected[22::23]
    del expected[22::23]
    assert read(work / "tokens", "train", "de", "en") == expected
    test = read(work / "tokens", "test", "de", "en")
    tests = "dev2010 tedx.dev2012 tst2010 tst2011 tst2012".split()
    names = [f"{name if '.' in name else 'ted.' + name}" for name in tests for _ in range(4)]
    assert [english.split()[0] for _, english in test] == names
    assert [english.split()[1:5] for _, english in test[:4]] == [["it", "&apos;s", "&amp;", n] for n in "0123"]
    check_binarised(work, ("de", "en"), ("train", "valid", "test"))


def text_of(data, folder, runs, *arguments, **environment):
    """Prepare the text; return the error message, or None."""
    result = prepare(data, folder, runs, "--until", "text", *arguments, **environment)
    assert result.returncode == (1 if result.stderr else 0)
    assert len(result.stderr.splitlines()) <= 1
    assert (runs / data / "text").exists() == (not result.stderr)
    return result.stderr.rstrip("\n") or None


def test_compressed_members_and_unpacked_files_are_read(wmt14, tmp_path):
    folder, _, texts = wmt14
    assert text_of("wmt14_en_fr", folder, tmp_path / "packed") is None
    for archive in folder.iterdir():
        with tarfile.open(archive) as files:
            files.extractall(tmp_path / "unpacked", filter="data")
    giga = tmp_path / "unpacked/giga-fren.release2.fixed.fr.gz"
    giga.with_suffix("").write_bytes(gzip.decompress(giga.read_bytes()))
    giga.unlink()
    assert text_of("wmt14_en_fr", tmp_path / "unpacked", tmp_path / "loose") is None
    expected = [
        pair for name in ("europarl", "crawl", "un", "news", "giga") for pair in zip(*texts[name].values(), strict=True)
    ]
    for runs in ("packed", "loose"):
        text = tmp_path / runs / "wmt14_en_fr/text"
        assert read(text, "train", "en", "fr") == expected
        assert read(text, "test", "en", "fr") == list(zip(*texts["test"].values(), strict=True))


def test_romanian_is_read_from_a_zip_with_diacritics_as_configured(tmp_path):
    folder, runs = tmp_path / "wmt16", tmp_path / "runs"
    lines = {name: corpus_lines(name, 30, ("en", "ro")) for name in ("europarl", "setimes", "valid", "test")}
    prefix = "training-parallel-ep-v8/europarl-v8.ro-en"
    write_tar(
        folder / "training-parallel-ep-v8.tgz",
        {f"{prefix}.{lang}": plain(text) for lang, text in lines["europarl"].items()},
    )
    with zipfile.ZipFile(folder / "en-ro.txt.zip", "w") as archive:
        for language, text in lines["setimes"].items():
            archive.writestr(f"SETIMES.en-ro.{language}", plain(text))
        archive.writestr("README", "about en-ro")
    for file, member, name in (("dev", "dev/newsdev2016", "valid"), ("test", "test/newstest2016", "test")):
        sides = {
            f"{member}-enro-src.en.sgm": sgm(lines[name]["en"], "en"),
            f"{member}-enro-ref.ro.sgm": sgm(lines[name]["ro"], "ro"),
        }
        write_tar(folder / f"{file}.tgz", sides)
    result = prepare("wmt16_en_ro", folder, runs, "--until", "tokens", ROMANIAN="remove")
    assert result.returncode == 0, result.stderr
    tokens = read(runs / "wmt16_en_ro/tokens", "train", "en", "ro")
    assert names_of(tokens) == [f"{name} {number}" for name in ("europarl", "setimes") for number in range(30)]
    assert not set("".join(target for _, target in tokens)) & set("şșţțăâî")
    assert {"dimineata", "multi"} <= set(" ".join(target for _, target in tokens).split())
    other = prepare("wmt16_en_ro", folder, runs)
    assert other.returncode == 1
    assert re.fullmatch(
        r"prepare.sh: error: \S+/tokens was made with other settings: .*; restore them, or add --restart .*\n",
        other.stderr,
    )


CURL = """#!/bin/bash
# serves $SERVED, the first time only in part, like a broken connection
while [ $# -gt 1 ]; do case $1 in --output) out=$2 ;; esac; shift; done
file=$SERVED/${1##*/}
[ -f "$file" ] || { echo "curl: (22) The requested URL returned error: 404" >&2; exit 22; }
if [ -f "$out" ]; then
    tail -c +$(($(stat -c %s "$out") + 1)) "$file" >>"$out"
else
    head -c 100 "$file" >"$out"
    echo "curl: (18) end of response with bytes missing" >&2
    exit 18
fi
"""


@pytest.fixture
def network(tmp_path):
    """A function that returns an environment in which only the files of a folder can be downloaded."""
    (tmp_path / "bin").mkdir()
    curl = tmp_path / "bin/curl"
    curl.write_text(CURL)
    curl.chmod(0o755)
    return lambda folder: {"PATH": f"{curl.parent}:{os.environ['PATH']}", "SERVED": str(folder)}


def test_an_interrupted_download_resumes_and_a_changed_file_is_refused(iwslt14, network, tmp_path):
    folder, _, _ = iwslt14
    download = partial(prepare, "iwslt14_de_en", None, tmp_path, "--until", **network(folder))
    originals = tmp_path / "originals/iwslt14"
    cut_off = download("originals")
    assert cut_off.returncode == 1
    assert "error: cannot download https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz" in cut_off.stderr
    assert (originals / "de-en.tgz.partial").stat().st_size == 100
    assert not (originals / "de-en.tgz").exists()
    result = download("originals")
    assert result.returncode == 0, result.stderr
    content = (folder / "de-en.tgz").read_bytes()
    assert (originals / "de-en.tgz").read_bytes() == content
    assert (originals / "SHA256SUMS").read_text() == f"{hashlib.sha256(content).hexdigest()}  de-en.tgz\n"
    (originals / "de-en.tgz").write_bytes(gzip.compress(gzip.decompress(content), 1))
    for source, environment in ((None, network(folder)), (originals, {})):
        message = text_of("iwslt14_de_en", source, tmp_path, **environment)
        assert message.startswith(
            f"prepare.sh: error: {originals}/de-en.tgz does not match {originals}/SHA256SUMS; delete it"
        )
    (originals / "de-en.tgz").write_bytes(content)
    assert text_of("iwslt14_de_en", None, tmp_path, **network(folder)) is None


def test_a_download_that_is_not_the_published_file_is_refused(wmt14, network, tmp_path):
    folder, _, _ = wmt14
    for _ in range(6):  # each download is interrupted once
        result = prepare("wmt14_en_de", None, tmp_path, "--until", "originals", **network(folder))
        assert result.returncode == 1
    assert re.search(
        r"error: \S+/test-full.tgz.partial, from https://www.statmt.org/wmt14/test-full.tgz, has the checksum",
        result.stderr,
    )
    assert not (tmp_path / "originals/wmt14/test-full.tgz").exists()
    assert "test-full" not in (tmp_path / "originals/wmt14/SHA256SUMS").read_text()


def test_a_missing_archive_is_reported_with_its_path_and_url(iwslt14, tmp_path):
    message = text_of("iwslt14_de_en", tmp_path / "nothing", tmp_path)
    url = "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz"
    assert message.startswith(f"corpora.py: error: {tmp_path}/nothing/de-en.tgz is missing")
    assert message.endswith(f"get it from {url}")


def flip_a_byte_of_the_checksum(content):
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _: b"<html>404</html>",
        lambda _: b"",
        flip_a_byte_of_the_checksum,
    ],
    ids=["truncated", "an error page", "empty", "checksum"],
)
def test_a_damaged_archive_is_refused_by_name(wmt14, tmp_path, damage):
    archive = tmp_path / "training-parallel-nc-v9.tgz"
    archive.write_bytes(damage((wmt14[0] / archive.name).read_bytes()))
    url = f"https://example.org/{archive.name}"
    with pytest.raises(SystemExit) as error:
        extract(tmp_path, ("train", url, "training/news-commentary-v9.de-en.{lang}"))
    message = str(error.value)
    assert message.startswith(f"corpora.py: error: {archive} ")
    assert re.search(
        r" (is damaged \(.+\); delete it and|the right archive;) download it again from " + re.escape(url), message
    )
    assert "\n" not in message


def extract(folder, *corpora_):
    out = folder / "out"
    out.mkdir(exist_ok=True)
    flags = [part for corpus in corpora_ for part in ("--corpus", *corpus)]
    corpora.main([str(folder), str(out), "--languages", "en", "de", *flags])
    return out


@pytest.mark.parametrize(
    ("member", "english", "german", "message"),
    [
        ("news.{lang}", b"one\ntwo\n", b"eins\n", "news.en has 2 lines and news.de has 1"),
        ("news.{lang}", b"", b"", "no text"),
        ("test.{lang}.sgm", sgm(["a", "b"], "en"), sgm(["a", "b"], "de").replace(b'"2"', b'"3"'), "metadata 2"),
        ("test.{lang}.sgm", b"no segments\n", b"no segments\n", "no text"),
        ("test.{lang}.sgm", sgm(["a"], "en"), '<seg id="1">\xe4</seg>'.encode("latin1"), "test.de.sgm in .* not UTF-8"),
        ("train.tags.{lang}", b"<url>u</url>\none\n", b"eins\n<url>u</url>\n", "metadata 1 where"),
        ("other.{side}.{lang}", b"", b"", r"news.tgz has no other.src.en"),
    ],
)  # fmt: skip
def test_files_that_are_not_parallel_are_refused(tmp_path, member, english, german, message):
    name = "test.{lang}.sgm" if "other" in member else member
    write_tar(tmp_path / "news.tgz", {name.format(lang="en"): english, name.format(lang="de"): german})
    with pytest.raises(SystemExit, match=message):
        extract(tmp_path, ("train", "https://example.org/news.tgz", member))


def test_a_text_without_a_final_line_feed_does_not_run_into_the_next(tmp_path):
    write_tar(tmp_path / "a.tgz", {"a.en": b"one\r\ntwo", "a.de": b"eins\nzwei\n", "b.en": b"three", "b.de": b"drei"})
    out = extract(tmp_path, *(("train", "https://example.org/a.tgz", name + ".{lang}") for name in "ab"))
    assert read(out, "train", "en", "de") == [("one", "eins"), ("two", "zwei"), ("three", "drei")]
    assert sorted(path.name for path in out.iterdir()) == ["train.de", "train.en"]


@pytest.mark.parametrize(
    ("line", "language", "expected"),
    [
        ("It's a “well-known” fact…", "en", "It &apos;s a &quot; well @-@ known &quot; fact ..."),
        (
            "Der „alte“ Zug (5.000 Leute) \u2013 z.B. nachts.",
            "de",
            "Der &quot; alte &quot; Zug ( 5.000 Leute ) - z.B. nachts .",
        ),
        ("L\u2019eau coûte 5\u00a0€ ; « oui »", "fr", "L&apos; eau coûte 5 € ; &quot; oui &quot;"),
        ("Dimineaţă, şi [aici]", "ro", "Dimineaţă , şi &#91; aici &#93;"),
    ],
)
def test_tokens_match_those_of_the_moses_scripts(line, language, expected):
    options = Namespace(normalise="punctuation", split_hyphens=True, romanian_diacritics="keep", lowercase=False)
    assert moses.tokenise(line, language, options) == expected


def test_several_processes_keep_the_order_and_read_only_slightly_ahead():
    read_so_far = []

    def numbers():
        for number in range(40):
            read_so_far.append(number)
            yield number

    results = parallel.map_in_order(neg, numbers(), workers=2)
    assert next(results) == 0
    assert len(read_so_far) <= 6
    assert list(results) == [-number for number in range(1, 40)]
    assert [len(chunk) for chunk in parallel.chunks(range(parallel.CHUNK_LINES + 1))] == [parallel.CHUNK_LINES, 1]


def test_an_unknown_step_is_refused_and_a_dry_run_writes_nothing(tmp_path):
    result = prepare("wmt14_en_de", None, tmp_path, "--until", "magic")
    assert (
        result.stderr
        == "prepare.sh: error: unknown step 'magic'; choose from originals text tokens subwords data-bin\n"
    )
    result = prepare("wmt14_en_de", None, tmp_path, "--dry-run")
    assert result.returncode == 0
    assert "https://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz" in result.stdout
    assert not list(tmp_path.iterdir())


def test_data_that_is_not_tokenised_can_stop_before_its_subwords(tmp_path):
    result = prepare("multi30k", None, tmp_path, "--until", "tokens", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "multi30k: text" in result.stdout
    assert "subwords" not in result.stdout


# -- a published model as the teacher ---------------------------------------------------------------------------------

OLD_LAYER_NORMS = {"self_attn_layer_norm": "layer_norms.0", "final_layer_norm": "layer_norms.1"}


def as_published_in_2018(state):
    """Convert a checkpoint to the layout of fairseq 0.6: one namespace, joint attention weights, other names."""
    model = state["cfg"]["model"]
    settings = Namespace(
        **{name: value for name, value in vars(model).items() if name.startswith(("encoder_", "decoder_", "share_"))},
        arch="transformer_wmt_en_de_big",
        task="translation",
        source_lang="en",
        target_lang="de",
        data="/checkpoint/of/somebody/wmt16_en_de",
        left_pad_source="True",
        left_pad_target="False",
        max_source_positions=1024,
        max_target_positions=1024,
        dropout=0.3,
        attention_dropout=0.1,
        relu_dropout=0.0,
        criterion="label_smoothed_cross_entropy",
        label_smoothing=0.1,
        optimizer="adam",
        adam_betas="(0.9, 0.98)",
        lr=[0.0005],
        lr_scheduler="inverse_sqrt",
        max_tokens=3584,
        update_freq=[16],
        distributed_world_size=128,
        fp16=True,
        seed=2,
    )
    weights = dict(state["model"])
    del weights["decoder.output_projection.weight"]
    for name in [name for name in weights if ".q_proj." in name]:
        parts = [weights.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        weights[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    for name in [name for name in weights if name.startswith("encoder.layers.")]:
        for new, old in OLD_LAYER_NORMS.items():
            if f".{new}." in name:
                weights[name.replace(new, old)] = weights.pop(name)
    weights["encoder.version"] = weights["decoder.version"] = torch.tensor([2.0])
    weights["encoder.embed_positions._float_tensor"] = torch.zeros(1)
    weights["decoder.embed_positions._float_tensor"] = torch.zeros(1)
    return {
        "args": settings,
        "model": weights,
        "optimizer_history": [{"criterion_name": "LabelSmoothedCrossEntropyCriterion", "best_loss": 3.2}],
        "extra_state": {"epoch": 7, "batch_offset": 0, "val_loss": 3.2},
        "last_optimizer_state": None,
    }


def test_a_published_model_can_teach_with_its_own_subwords_and_dictionaries(wmt14, tmp_path):
    folder = wmt14[0]
    assert prepare("wmt14_en_de", folder, tmp_path / "theirs").returncode == 0
    theirs, published = tmp_path / "theirs/wmt14_en_de", tmp_path / "wmt16.en-de.joined-dict.transformer"
    published.mkdir()
    shutil.copy(theirs / "subwords/subwords.codes", published / "bpecodes")
    for language in ("en", "de"):  # their dictionary has symbols that do not occur in this data
        text = (theirs / f"data-bin/dict.{language}.txt").read_text(encoding="utf-8")
        (published / f"dict.{language}.txt").write_text(f"theirs 99\n{text}", encoding="utf-8")
    ours = tmp_path / "ours"
    result = prepare("wmt14_en_de", folder, ours, "--for", published)
    assert result.returncode == 0, result.stderr
    for language in ("en", "de"):
        dictionary = ours / f"wmt14_en_de/data-bin/dict.{language}.txt"
        assert dictionary.read_bytes() == (published / f"dict.{language}.txt").read_bytes()

    tiny = [
        *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16", "--encoder-attention-heads", "2"),
        *("--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "16", "--decoder-attention-heads", "2"),
        *("--encoder-layers", "1", "--decoder-layers", "1", "--max-update", "25", "--disable-validation"),
        *("--update-freq", "1", "--lr", "0.01", "--warmup-updates", "4"),  # enough to predict better than chance
    ]
    environment = {"NMT_KD_RUNS": str(ours), "NMT_KD_DEVICE": "cpu", "MAX_TOKENS": "512"}
    train = partial(run_command, "bash", ROOT / "scripts/train.sh", "wmt14_en_de")
    assert train("teacher", "--", *tiny, environment=environment).returncode == 0
    state = read_checkpoint_file(ours / "wmt14_en_de/teacher/checkpoint_last.pt")
    torch.save(as_published_in_2018(state), published / "model.pt")
    taught = train("word_kd", "--", *tiny, environment={**environment, "TEACHER": str(published / "model.pt")})
    assert taught.returncode == 0, taught.stderr
    student = read_checkpoint_file(ours / "wmt14_en_de/word_kd/checkpoint_last.pt")
    assert student["model"]["encoder.embed_tokens.weight"].shape == state["model"]["encoder.embed_tokens.weight"].shape
    log = (ours / "wmt14_en_de/word_kd/train.log").read_text(encoding="utf-8")
    assert '"train_kd_loss": ' in log
    assert "unchecked" not in log  # its dictionaries are next to it

    assert prepare("wmt14_en_de", folder, ours).returncode == 0  # keeps the published subwords
    again = prepare("wmt14_en_de", folder, ours, "--restart")
    assert "was prepared for a published model; add --for DIR, or remove " in again.stderr
    other = prepare("wmt14_en_de", folder, tmp_path / "theirs", "--for", published, "--until", "subwords")
    assert "was made with other settings" in other.stderr
    (published / "bpecodes").unlink()
    missing = prepare("wmt14_en_de", folder, tmp_path / "more", "--for", published)
    assert f"{published} has no bpecodes; give the folder of a published model" in missing.stderr
