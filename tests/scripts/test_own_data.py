"""The user's own text: settings by its size, all scripts on it, changed text, and errors before anything is written."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import check_text
import own_data
import parallel_text
import phrasebook
import pytest
from conftest import ROOT, STAND_INS, run_command
from test_scripts import parsed

LANGUAGES = ("--languages", "en", "fr")


def prepare(*arguments, runs):
    environment = {"NMT_KD_RUNS": str(runs), "NMT_KD_DEVICE": "cpu", "WORKERS": "1"}
    return run_command("bash", ROOT / "scripts/prepare.sh", *arguments, environment=environment)


@pytest.fixture
def text(tmp_path):
    """A folder with two test sets in two languages; which these are makes no difference."""
    folder = tmp_path / "text"
    folder.mkdir()
    for split, pairs in phrasebook.corpus({"test": 4, "test_web": 3, "valid": 5, "train": 150}, seed=2).items():
        for column, language in enumerate(("en", "fr")):
            (folder / f"{split}.{language}").write_text("".join(f"{pair[column]}\n" for pair in pairs))
    return folder


# smaller models and shorter translations than the scale's, added by the user
ADDED = """
teacher_model=($(transformer 1 1 16 32 2))
student_model=($(transformer 1 1 16 32 2))
training+=(--log-interval 1)
generation=(--beam 4 --max-len-a 0 --max-len-b 8 --max-tokens 6000)
"""


@pytest.fixture
def script(tmp_path):
    """A function that runs a script of a clone whose set-up takes no time, and returns what it prints."""
    project, bin_folder = tmp_path / "project", Path(sys.executable).parent
    shutil.copytree(ROOT / "scripts", project / "scripts")
    (project / "scripts/setup.sh").write_text("exit 0\n")
    for name in ("configs", "nmt_kd"):
        (project / name).symlink_to(ROOT / name)
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/settings.sh").write_text(own_data.MARK + ADDED)  # as after an earlier preparation
    environment = {"NMT_KD_RUNS": str(tmp_path / "runs"), "NMT_KD_DEVICE": "cpu", "WORKERS": "1"}
    environment |= {"PYTHONPATH": f"{ROOT}:{STAND_INS}", "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    environment |= {"VIRTUAL_ENV": str(bin_folder.parent)}

    def run(name, *arguments, **kwargs):
        result = run_command("bash", project / f"scripts/{name}.sh", *arguments, environment=environment, **kwargs)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_three_commands_lead_from_text_to_a_distilled_student_a_table_and_translations(text, script, tmp_path):
    work = tmp_path / "runs/mine"
    for path in text.glob("test_web.*"):
        path.unlink()
    script("prepare", "mine", "--text", text, *LANGUAGES, "--updates", "2")
    printed = script("quickstart", "--data", "mine", "--methods", "seq_kd")
    assert (work / "results.md").read_text() in printed
    rows = json.loads((work / "results.json").read_text())
    assert [row["system"] for row in rows] == ["teacher", "seq_kd"]
    assert rows[0]["teacher_agreement"] == 100  # with itself
    assert len(re.findall(r"^D-", (work / "seq_kd/translations.txt").read_text(), re.MULTILINE)) == 4
    assert len(script("translate", "mine", "seq_kd", input="The table is red.\n\nOne\n").splitlines()) == 3


def test_two_text_files_and_translations_lead_to_a_student_and_a_table_without_a_teacher(text, script, tmp_path):
    work, translations = tmp_path / "runs/mine", tmp_path / "translated.fr"
    script("prepare", "mine", "--text", text / "train.en", text / "train.fr", "--updates", "2")
    translations.write_text((work / "text/train.fr").read_text().replace("e", "a"))
    printed = script("quickstart", "--data", "mine", "--translations", translations, "--methods", "seq_kd")
    assert (work / "results.md").read_text() in printed
    assert not (work / "teacher").exists()
    (row,) = json.loads((work / "results.json").read_text())
    assert (row["system"], row["updates"], row["teacher_agreement"]) == ("seq_kd", 2, None)
    assert "  - |" in (work / "results.md").read_text()
    pieces = (work / "data-bin-kd/text/train.fr").read_text().splitlines()
    joined = [line.replace(" ", "").replace("\u2581", " ").strip() for line in pieces]
    assert joined == translations.read_text().splitlines()


# -- validation and test sets that are taken from the training text ----------------------------------------------------


def read_pairs(folder, split):
    sides = [(folder / f"{split}.{language}").read_text().splitlines() for language in ("en", "fr")]
    return list(zip(*sides, strict=True))


@pytest.mark.parametrize(
    ("present", "options", "sizes"),
    [
        ([], [], {"train": 120, "valid": 15, "test": 15}),
        ([], ["--valid-size", "3", "--test-size", "7"], {"train": 140, "valid": 3, "test": 7}),
        (["test", "test_web"], [], {"train": 135, "valid": 15, "test": 4, "test_web": 3}),
        (["valid"], ["--test-size", "8"], {"train": 142, "valid": 5, "test": 8}),
    ],
)
def test_what_is_missing_is_held_out_from_the_training_text(text, tmp_path, present, options, sizes):
    for path in text.iterdir():
        if path.stem not in ("train", *present):
            path.unlink()
    before = read_pairs(text, "train")
    arguments = ("mine", "--text", text, *LANGUAGES, *options, "--until", "text")
    result = prepare(*arguments, runs=tmp_path)
    assert result.returncode == 0, result.stderr
    splits = {name: read_pairs(tmp_path / "mine/text", name) for name in sizes}
    assert {name: len(pairs) for name, pairs in splits.items()} == sizes
    taken = [pair for name, pairs in splits.items() if name not in present for pair in pairs]
    assert sorted(taken) == sorted(before)
    assert prepare(*arguments, runs=tmp_path).stdout == ""
    assert prepare("mine", "--until", "text", runs=tmp_path).stdout == ""
    with (text / "train.en").open("a") as file:
        file.write("One more.\n")
    assert "train.en has changed since " in prepare("mine", "--until", "text", runs=tmp_path).stderr


def test_two_files_take_the_place_of_a_folder_and_name_the_languages(text, tmp_path):
    folder = prepare("folder", "--text", text, *LANGUAGES, "--until", "text", runs=tmp_path)
    assert folder.returncode == 0, folder.stderr
    for place in ("en", "fr"):  # files of the same name
        (tmp_path / place).mkdir()
        shutil.copy(text / f"train.{place}", tmp_path / place / "text.txt")
    files = [text / "train.fr", text / "train.en"]
    assert prepare("back", "--text", *files, "--until", "text", runs=tmp_path).returncode == 0
    same_name = [tmp_path / "en/text.txt", tmp_path / "fr/text.txt"]
    unclear = prepare("mine", "--text", *same_name, runs=tmp_path)
    assert (
        "text.txt and text.txt do not end in the names of two languages; add --languages SOURCE TARGET"
        in unclear.stderr
    )
    named = ("mine", "--text", *same_name, *LANGUAGES, "--until", "text")
    assert prepare(*named, runs=tmp_path).returncode == 0
    assert "source_lang=fr\ntarget_lang=en\n" in (tmp_path / "back/settings.sh").read_text()
    for split in ("train", "valid", "test"):
        assert len(read_pairs(tmp_path / "back/text", split)) == len(read_pairs(tmp_path / "mine/text", split))
    assert prepare("mine", "--until", "text", runs=tmp_path).stdout == ""
    edit(tmp_path / "fr/text.txt", 3, "Other.")
    assert "fr/text.txt has changed since " in prepare("mine", "--until", "text", runs=tmp_path).stderr


def test_held_out_sentences_are_in_no_other_split_and_stay_the_same_when_text_is_added(tmp_path):
    pairs = phrasebook.corpus({"train": 60}, seed=4)["train"]
    for column, name in enumerate(("a.en", "a.fr")):
        lines = [pair[column] for pair in pairs]
        lines += [*lines[:20], "Short.", ""]  # repeated; what is empty is never held out
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    text = parallel_text.find_text([tmp_path / "a.en", tmp_path / "a.fr"], None, 6, 5)
    splits = {name: [tuple(pair) for _, *pair in text.pairs(name)] for name in ("train", "valid", "test")}
    held_out = set(splits["valid"] + splits["test"])
    assert (len(splits["valid"]), len(splits["test"]), len(held_out)) == (6, 5, 11)
    assert not {side for pair in held_out for side in pair} & {side for pair in splits["train"] for side in pair}
    for name in ("a.en", "a.fr"):
        with (tmp_path / name).open("a") as file:
            file.write("Something new.\n")
    again = parallel_text.find_text([tmp_path / "a.en", tmp_path / "a.fr"], None, 6, 5)
    kept = {tuple(pair) for name in ("valid", "test") for _, *pair in again.pairs(name)}
    assert len(kept & held_out) >= 10


def test_held_out_sentences_are_not_in_a_given_test_set(tmp_path):
    pairs = phrasebook.corpus({"train": 60}, seed=4)["train"]
    for name, lines in (("train", pairs), ("test", pairs[:40])):
        for column, language in enumerate(("en", "fr")):
            (tmp_path / f"{name}.{language}").write_text("".join(f"{pair[column]}\n" for pair in lines))
    text = parallel_text.find_text([tmp_path], ["en", "fr"], 10)
    splits = {name: {side for _, *pair in text.pairs(name) for side in pair} for name in ("valid", "test")}
    assert len(list(text.pairs("valid"))) == 10
    assert not splits["valid"] & splits["test"]


def test_the_settings_serve_every_script_and_keep_what_the_user_has_added(text, tmp_path):
    assert prepare("mine", "--text", text, *LANGUAGES, "--until", "text", runs=tmp_path).returncode == 0
    settings = tmp_path / "mine/settings.sh"
    settings.write_text(settings.read_text() + "student_training+=(--dropout 0.25)\n")
    again = prepare("mine", "--text", text, *LANGUAGES, "--updates", "9", "--until", "text", runs=tmp_path)
    assert (again.returncode, again.stdout) == (0, "")
    environment = {"NMT_KD_RUNS": str(tmp_path), "NMT_KD_DEVICE": "cpu", "WORKERS": "1"}
    commands = {
        name: run_command("bash", ROOT / f"scripts/{name}.sh", "mine", *arguments, "--dry-run", environment=environment)
        for name, *arguments in (
            ["train", "plain"],
            ["evaluate", "plain"],
            ["distill", "kd"],
            ["experiment", "ablation"],
        )
    }
    assert [result.stderr for result in commands.values()] == [""] * 4
    cfg = parsed(commands["train"].stdout.splitlines()[-1])
    assert (cfg.model.dropout, cfg.optimization.max_update, cfg.task.target_lang) == (0.25, 9, "fr")
    for program in ("fairseq-generate", "nmt-kd agreement"):
        assert re.findall(rf"{program} .*--gen-subset (\S+)", commands["evaluate"].stdout) == ["test", "test1"]


@pytest.mark.parametrize("scale", own_data.SCALES)
def test_fairseq_takes_the_settings_of_every_scale(scale, text, tmp_path):
    result = prepare("mine", "--text", text, *LANGUAGES, "--scale", scale, "--until", "text", runs=tmp_path)
    assert result.returncode == 0, result.stderr
    environment = {"NMT_KD_RUNS": str(tmp_path), "NMT_KD_DEVICE": "cpu"}
    for method in ("teacher", "seq_kd"):
        printed = run_command(
            "bash", ROOT / "scripts/train.sh", "mine", method, "--dry-run", environment=environment
        ).stdout
        assert parsed(printed.splitlines()[-1]).optimization.max_update == own_data.updates_for(scale, 150)
    printed = run_command("bash", ROOT / "scripts/evaluate.sh", "mine", "seq_kd", "--dry-run", environment=environment)
    assert "--remove-bpe sentencepiece" in printed.stdout
    assert "multi-bleu" not in printed.stdout


@pytest.mark.parametrize(("updates", "averages"), [("24000", False), ("25000", True)])
def test_checkpoints_are_averaged_only_if_there_will_be_enough(updates, averages, text, tmp_path):
    options = ("--scale", "large", "--updates", updates, "--until", "text")
    assert prepare("mine", "--text", text, *LANGUAGES, *options, runs=tmp_path).returncode == 0
    environment = {"NMT_KD_RUNS": str(tmp_path), "NMT_KD_DEVICE": "cpu"}
    printed = run_command("bash", ROOT / "scripts/evaluate.sh", "mine", "plain", "--dry-run", environment=environment)
    assert ("nmt-kd average" in printed.stdout) is averages


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (300, ("tiny", 2_000, 400)),
        (4_999, ("tiny", 2_000, 900)),
        (29_000, ("small", 2_000, 5_800)),
        (99_999, ("small", 6_666, 6_000)),
        (160_000, ("medium", 50_000, 10_000)),
        (4_500_000, ("large", 200_000, 32_000)),
    ],
)
def test_the_settings_follow_from_the_size_of_the_text(pairs, expected):
    report = check_text.Report(pairs=pairs, characters=set("abc"), words=set(map(str, range(40_000))))
    scale = own_data.scale_for(pairs)
    assert (scale, own_data.updates_for(scale, pairs), own_data.vocabulary_for(scale, report)) == expected


def test_the_vocabulary_covers_many_characters_and_never_exceeds_the_text():
    chinese = check_text.Report(
        pairs=300, characters=set(map(chr, range(3000, 4000))), words=set(map(str, range(5000)))
    )
    assert own_data.vocabulary_for("tiny", chinese) == 2 * (1000 + check_text.SPECIAL_SUBWORDS)
    few = check_text.Report(pairs=300, characters=set("abc"), words={"ab", "bc"})
    assert own_data.vocabulary_for("tiny", few) == few.largest_vocabulary == 9


def test_the_documentation_states_the_rule():
    page = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (below|from) ([\d,]+) \| `(\w+)` \|.*\| ([\d,]+)[^|]*\|$", page, re.MULTILINE)
    assert [row[2] for row in rows] == ["tiny", "small", "medium", "large"]
    for kind, limit, scale, updates in rows:
        pairs = int(limit.replace(",", "")) - (kind == "below")
        assert own_data.scale_for(pairs) == scale
        assert f"{own_data.updates_for(scale, 0):,}" == updates


def edit(path, number, line):
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = line
    path.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")


def shorten(path):
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines()[:100]))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train.fr", shorten, "train.en has 150 lines but "),
        ("valid.en", lambda path: path.write_text(""), "valid.en is empty; put a few hundred sentence pairs"),
        ("train.fr", lambda path: path.write_bytes("é\n".encode("latin1") * 150), "line 1, is not UTF-8"),
        ("train.en", lambda path: edit(path, 7, ""), "line 7: 1 pair of train has an empty side; remove it, or drop"),
    ],
)
def test_text_that_cannot_be_used_ends_in_one_line_before_anything_is_written(text, tmp_path, name, damage, message):
    damage(text / name)
    result = prepare("mine", "--text", text, *LANGUAGES, runs=tmp_path / "runs")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert str(text / name) in result.stderr
    assert message in result.stderr
    assert not (tmp_path / "runs").exists()


def test_clean_drops_pairs_from_the_prepared_text_alone(text, tmp_path):
    before = (text / "train.en").read_text().splitlines()
    edit(text / "train.en", 7, "")
    edit(text / "train.en", 9, (text / "test_web.en").read_text().splitlines()[0])
    result = prepare("mine", "--text", text, *LANGUAGES, "--clean", "--until", "text", runs=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "own_data.py: dropping 1 pair of train that has an empty side, first " in result.stderr
    kept = (tmp_path / "mine/text/train.en").read_text().splitlines()
    assert kept == [line for number, line in enumerate(before, 1) if number not in (7, 9)]
    counts = json.loads((tmp_path / "mine/text/counts.json").read_text())
    assert counts["train"] == {"pairs": 150, "empty": 1, "leaked": 1}
    assert len((text / "train.en").read_text().splitlines()) == 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["multi30k", "--text", "TEXT"], "multi30k is a data set of this project; choose another name for your text"),
        (["../x", "--text", "TEXT"], "cannot name a data set '../x'"),
        (["originals", "--text", "TEXT"], "cannot name a data set 'originals', which is the folder for downloads"),
        (["mine", "--text", "TEXT"], "has text in en and fr; add --languages en fr to translate from en"),
        (["mine", "--text", "/nowhere"], "--text /nowhere is not a folder"),
        (["mine", "--text", __file__], "is one file; give two, of the source and the target language"),
        (["mine", "--text", __file__, "/nowhere"], "/nowhere is not a file; give two files with the same sentences"),
        (
            ["mine", "--text", "TEXT", *LANGUAGES, "--valid-size", "9"],
            "--valid-size is for text without valid.LANGUAGE",
        ),
        (["mine", "--text", "TEXT", *LANGUAGES, "--test-size", "0"], "--test-size: '0' is not a number of 1 or more"),
        (
            ["mine", "--text", "FILES", "--test-size", "70"],
            "has 150 lines, too few to hold out 85 pairs for validation",
        ),
        (["mine", "--text", "TEXT", "--languages", "en"], "--languages needs a source and a target language"),
        (["mine", "--text", "TEXT", *LANGUAGES, "--vocabulary-size", "x"], "--vocabulary-size: invalid int value: 'x'"),
        (["mine", "--text", "TEXT", *LANGUAGES, "--scale", "huge"], "--scale: invalid choice: 'huge'"),
        (["mine", "--text", "TEXT", *LANGUAGES, "--vocabulary-size", "9000"], "choose --vocabulary-size "),
        (["multi30k", "--clean"], "--clean is for your own text; add --text FOLDER"),
        (["mine"], "unknown data set 'mine'; choose from: iwslt14_de_en multi30k"),
    ],
)
def test_wrong_arguments_end_in_one_line(text, tmp_path, arguments, message):
    words = {"TEXT": [text], "FILES": [text / "train.en", text / "train.fr"]}
    result = prepare(*(part for word in arguments for part in words.get(word, [word])), runs=tmp_path / "runs")
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_changed_text_or_vocabulary_is_refused_and_restart_removes_what_was_made_of_it(text, tmp_path):
    same = ("mine", "--text", text, *LANGUAGES, "--until", "subwords")
    assert prepare(*same, "--vocabulary-size", "200", runs=tmp_path).returncode == 0
    work = tmp_path / "mine"
    settings, model = (work / "settings.sh").read_text(), (work / "subwords/subwords.model").read_bytes()
    (work / "plain").mkdir()
    (work / "plain/flags").touch()
    (work / "notes").mkdir()
    os.utime(text / "train.en")  # the same text
    assert prepare(*same, "--vocabulary-size", "200", runs=tmp_path).stdout == ""

    other = prepare(*same, "--vocabulary-size", "220", runs=tmp_path)
    assert other.returncode == 1
    assert (
        "made with other settings: '200 subwords', now '220 subwords'; restore them, or add --restart" in other.stderr
    )
    edit(text / "train.fr", 3, "Another sentence.")
    changed = prepare("mine", "--until", "subwords", runs=tmp_path)
    assert changed.stderr == (
        f"prepare.sh: error: {text}/train.fr has changed since {work}/text was made from it; restore it, or add "
        f"--restart to remove {work}/text and everything made from it\n"
    )
    assert (work / "settings.sh").read_text() == settings
    assert (work / "subwords/subwords.model").read_bytes() == model

    fine = (text / "train.fr").read_text(encoding="utf-8")
    edit(text / "train.fr", 4, "")
    refused = prepare("mine", "--until", "subwords", "--restart", runs=tmp_path)
    assert refused.returncode == 1
    assert f"{text}/train.fr, line 4: 1 pair of train has an empty side" in refused.stderr
    assert (work / "subwords/subwords.model").read_bytes() == model
    (text / "train.fr").write_text(fine, encoding="utf-8")

    (work / "stores").mkdir()
    again = prepare("mine", "--until", "subwords", "--restart", runs=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Another sentence." in (work / "text/train.fr").read_text()
    assert sorted(path.name for path in work.glob("[!.]*")) == ["notes", "settings.sh", "subwords", "text"]


def test_prepared_text_that_was_edited_is_noticed_by_the_next_step(text, tmp_path):
    assert prepare("mine", "--text", text, *LANGUAGES, "--until", "subwords", runs=tmp_path).returncode == 0
    edit(tmp_path / "mine/text/valid.en", 2, "Edited by hand.")
    refused = prepare("mine", runs=tmp_path)
    assert (
        f"{tmp_path}/mine/text/valid.en has changed since {tmp_path}/mine/subwords was made from it" in refused.stderr
    )
    assert prepare("mine", "--until", "subwords", "--restart", runs=tmp_path).returncode == 0
    assert "Edited by hand." in (tmp_path / "mine/text/valid.en").read_text()
