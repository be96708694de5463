"""The check of the user's own text: each problem is one line that says what is wrong, where, and what to do."""

import sys

import check_text
import parallel_text
import pytest
from conftest import ROOT, run_command
from parallel_text import TextError, find_text

SIZES = {"train": 40, "valid": 5, "test": 6}


@pytest.fixture
def folder(tmp_path):
    """A folder with text in English and French without any fault."""
    for split, size in SIZES.items():
        for language, words in (("en", "the sentence with number"), ("fr", "la phrase avec le numéro")):
            write(tmp_path / f"{split}.{language}", [f"{words} {split} {number} a" for number in range(size)])
    return tmp_path


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def edit(path, number, line):
    """Replace the line with this number, counted from 1."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    lines[number - 1] = line
    write(path, lines)


def problems(folder, **options):
    return check_text.check(find_text([folder], ["en", "fr"]), **options).problems


def test_good_text_has_no_problems_and_is_counted(folder):
    report = check_text.check(find_text([folder], ["en", "fr"]), vocabulary_size=60)
    assert (report.problems, report.notes, report.pairs) == ([], [], 40)
    assert {"é", "7", "t"} <= report.characters
    assert {"sentence", "numéro"} <= report.words


def test_a_missing_line_is_reported_with_both_numbers(folder):
    lines = (folder / "train.fr").read_text().splitlines()
    write(folder / "train.fr", lines[:-3])
    assert problems(folder) == [
        f"{folder}/train.en has 40 lines but {folder}/train.fr has 37; every line must be the translation of the same "
        "line in the other file"
    ]


def test_another_encoding_is_reported_with_line_byte_and_command(folder):
    path = folder / "valid.fr"
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin1"))
    assert problems(folder) == [
        f"{path}, line 1, is not UTF-8 (byte 0xe9 at position 22); convert the file, for example with: "
        "iconv -f latin1 -t utf-8 valid.fr"
    ]


@pytest.mark.parametrize(
    ("empty", "message"),
    [
        (["valid.en"], "valid.en is empty; put a few hundred sentence pairs that are not in the training text into it"),
        (["test.fr"], "test.fr is empty; put a few hundred"),
        (["train.en", "train.fr"], "train.fr are empty; put one sentence per line into it"),
    ],
)
def test_an_empty_file_is_one_line(folder, empty, message):
    for name in empty:
        (folder / name).write_text("")
    (found,) = problems(folder)
    assert message in found
    assert all(str(folder / name) in found for name in empty)


FAULTS = {
    "empty": ("train.fr", 7, " \t ", "1 pair of train has an empty side; remove it, or drop it with --clean"),
    "long": ("valid.en", 2, "long " * 201, "1 pair of valid has a side of more than 1,000 characters; split or remove"),
    "leaked": ("train.en", 9, "the sentence with number test 3 a", "contains a validation or test sentence; remove it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pair_that_cannot_be_used_is_a_problem_or_with_clean_a_count(folder, fault):
    name, number, line, message = FAULTS[fault]
    edit(folder / name, number, line)
    (found,) = problems(folder)
    where = folder / ("train.en" if fault == "leaked" else name)
    assert found.startswith(f"{where}, line {number}: ")
    assert message in found
    report = check_text.check(find_text([folder], ["en", "fr"]), clean=True)
    assert report.problems == []
    (note,) = report.notes
    assert note.startswith("dropping 1 pair of ")
    assert f"{where}, line {number}" in note
    assert report.pairs == 40 - (name.startswith("train"))


def test_a_target_sentence_of_a_test_set_leaks_and_short_sentences_do_not(folder):
    edit(folder / "train.fr", 3, "la phrase avec le numéro valid 1 a")
    edit(folder / "test.en", 1, "Thank you.")
    edit(folder / "train.en", 5, "Thank you.")
    (found,) = problems(folder)
    assert found.startswith(f"{folder}/train.en, line 3: 1 pair of train")


def test_several_faults_are_counted_and_the_first_is_shown(folder):
    for number in (5, 12, 30):
        edit(folder / "train.en", number, "")
    assert problems(folder) == [
        f"{folder}/train.en, line 5: 3 pairs of train have an empty side; remove them, or drop them with --clean"
    ]


def test_text_of_which_nothing_remains_is_a_problem(folder):
    write(folder / "test.en", [""] * 6)
    assert f"{folder}/test.en and {folder}/test.fr have no pair that --clean keeps; give other text" in problems(
        folder, clean=True
    )


def test_repeated_pairs_are_kept_and_noted(folder):
    for language in ("en", "fr"):
        edit(folder / f"train.{language}", 8, (folder / f"train.{language}").read_text().splitlines()[1])
    report = check_text.check(find_text([folder], ["en", "fr"]))
    assert report.problems == []
    assert report.notes == [f"keeping 1 pair of train that already occurred, first {folder}/train.en, line 8"]


def test_the_same_text_on_both_sides_is_a_problem(folder):
    (folder / "train.fr").write_bytes((folder / "train.en").read_bytes())
    assert problems(folder) == [
        f"{folder}/train.en and {folder}/train.fr are the same text (40 of 40 lines are equal); replace one of them by "
        "its translation"
    ]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            9000,
            "a vocabulary of 9,000 subwords is larger than the 40 training pairs support; choose --vocabulary-size ",
        ),
        (5, "a vocabulary of 5 subwords is smaller than the number of different characters"),
    ],
)
def test_a_vocabulary_that_the_text_does_not_support_is_a_problem(folder, size, message):
    (found,) = problems(folder, vocabulary_size=size)
    assert message in found


def test_sentencepiece_can_learn_the_vocabularies_that_the_check_allows(folder, tmp_path):
    import subwords

    report = check_text.check(find_text([folder], ["en", "fr"]))
    text_files = [folder / "train.en", folder / "train.fr"]
    for size in (report.least_vocabulary, report.largest_vocabulary):
        subwords.train_subwords(text_files, tmp_path / "model", size)
    with pytest.raises(SystemExit, match=r"cannot learn 9,000 subwords on .*train.en: Vocabulary size too high"):
        subwords.train_subwords(text_files, tmp_path / "model", 9000)


def test_odd_white_space_a_byte_order_mark_and_windows_line_ends_do_no_harm(folder):
    (folder / "test.en").write_bytes("\ufeffone\u2028two\x85three\r\n\ta  b\r\nc\n\nd\rd\ne\n".encode())
    pairs = list(find_text([folder], ["en", "fr"]).pairs("test"))
    assert [source for _, source, _ in pairs] == ["one two three", "a b", "c", "", "d d", "e"]


@pytest.mark.parametrize(
    ("change", "languages", "message"),
    [
        (None, None, "has text in en and fr; add --languages en fr to translate from en, or --languages fr en to"),
        (("train.de", ""), None, "has train.de, train.en, train.fr; name the source and the target language with"),
        (None, ["en", "it"], "has no train.it; its languages are en, fr"),
        (None, ["en", "en"], "--languages has en twice"),
        (("train.zh-CN", ""), ["en", "zh-CN"], "'zh-CN' in --languages is not a language; use letters and digits"),
        (("valid.fr", None), ["en", "fr"], "has no valid.fr; put a few hundred sentence pairs that are not in the"),
        (("test.en", None), ["en", "fr"], "has no test.en; put a few hundred"),
        (("test_web.en", "a\n"), ["en", "fr"], "has no test_web.fr; put a few hundred"),
        (("test web.en", "a\n"), ["en", "fr"], "test web.*; use only letters, digits"),
    ],
)
def test_files_that_are_missing_or_unclear_are_named(folder, change, languages, message):
    if change and change[1] is None:
        (folder / change[0]).unlink()
    elif change:
        (folder / change[0]).write_text(change[1])
    with pytest.raises(TextError) as caught:
        find_text([folder], languages)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_test_set_called_test_is_the_first(folder):
    for name in ("test_web", "test2016"):
        for language in ("en", "fr"):
            (folder / f"{name}.{language}").write_text(f"{name} {language}\n")
    assert find_text([folder], ["fr", "en"]).test_sets == ("test", "test2016", "test_web")


def test_memory_is_one_hash_for_each_sentence(folder):
    text = find_text([folder], ["en", "fr"])
    assert {len(known) for side in text.held_out for known in side} == {len(parallel_text.hash_of("any"))} == {8}


def test_the_command_prints_every_problem_on_a_line_and_fails(folder):
    command = [sys.executable, ROOT / "scripts/check_text.py", folder, "--languages", "en", "fr"]
    good = run_command(*command)
    assert good.stdout == f"{folder}: 40 training pairs, en fr, test\n"
    edit(folder / "train.en", 5, "")
    edit(folder / "test.en", 2, "")
    bad = run_command(*command)
    assert bad.returncode == 1
    assert len(bad.stderr.splitlines()) == 2
    assert all(line.startswith("check_text.py: error: ") for line in bad.stderr.splitlines())
    missing = run_command(*command[:2], folder / "nowhere")
    assert missing.stderr.startswith(
        f"check_text.py: error: {folder}/nowhere is not a folder; give the one with train."
    )
