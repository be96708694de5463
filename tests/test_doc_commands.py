"""Every command and all code in the README and docs/ work, in the order in which a page shows them."""

import logging
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, TINY_TRANSFORMER, parse_training, run_command, train_here
from doc_commands import Command, commands_of, run
from doc_pages import PAGES, TEXTS, blocks
from translators.teachers import marian, save

from nmt_kd.errors import UserError

LOG_FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"


@pytest.fixture(scope="session")
def workplace(corpus, data, seq_kd_teacher, tmp_path_factory) -> Path:
    """A folder with small files under all names that the pages use."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(data, folder / "data-bin")
    for name in (
        "teacher.pt",
        "teacher2.pt",
        "student.pt",
        "plain.pt",
        "seq_kd.pt",
        *(f"checkpoints/checkpoint{epoch}.pt" for epoch in range(1, 6)),
    ):
        _copy(seq_kd_teacher, folder / name)
    _copy(corpus / "pieces/subwords.model", folder / "subwords.model")
    shutil.copytree(data, folder / "teacher-data-bin")
    _copy(corpus / "pieces/subwords.model", folder / "teacher-subwords.model")
    direction = ["--source-lang", "de", "--target-lang", "en", "--disable-validation"]
    reverse = train_here(data, folder / "reverse", *direction, "--criterion", "cross_entropy", "--max-update", "2")
    _copy(reverse.save_dir / "checkpoint_last.pt", folder / "reverse.pt")
    shutil.rmtree(folder / "reverse")
    masked_model = ["--arch", "cmlm_transformer", *TINY_TRANSFORMER[2:], "--disable-validation", "--max-update", "40"]
    masked_training = ["--task", "translation_lev", "--criterion", "nat_loss", "--noise", "random_mask"]
    masked = train_here(data, folder / "masked", *masked_training, "--lr", "0.01", architecture=masked_model)
    for name in ("masked.pt", "runs/multi30k/masked_teacher/checkpoint_best.pt"):
        _copy(masked.save_dir / "checkpoint_last.pt", folder / name)
    shutil.rmtree(folder / "masked")
    for language in ("en", "de"):
        _copy(corpus / f"text/test.{language}", folder / f"test.{language}")
        _copy(corpus / f"text/train.{language}", folder / f"train.{language}")
    _copy(corpus / "text/valid.en", folder / "monolingual.en")
    save(
        folder / "opus-mt-en-de",
        *marian(folder / "opus-mt-en-de", folder / "subwords.model", source_lang="en", target_lang="de"),
    )
    entry = '{"source": "a red hat", "translations": ["ein roter Hut", "ein Hut"], "scores": [-0.1, -0.5]}'
    (folder / "translations.jsonl").write_text(entry + "\n", encoding="utf-8")
    references = (folder / "test.de").read_text(encoding="utf-8").splitlines()
    for name in ("plain", "word_kd"):
        for number, seed in enumerate(("", ".seed1", ".seed2")):
            lines = [" ".join(line.split()[number:]) or "." for line in references]
            (folder / f"{name}{seed}.de").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "comet-model").mkdir()
    (folder / "comet-qe-model").mkdir()
    for split in ("train", "valid", "test"):
        for ours, theirs in (("en", "en"), ("de", "fr")):  # no page looks at the language
            _copy(corpus / f"text/{split}.{ours}", folder / f"my-text/{split}.{theirs}")
    settings = [sys.executable, ROOT / "scripts/own_data.py", "settings", "captions", folder / "my-text"]
    written = run_command(*settings, "--languages", "en", "fr").stdout
    (folder / "runs/captions").mkdir(parents=True)
    (folder / "runs/captions/settings.sh").write_text(written, encoding="utf-8")
    for name in ("bpecodes", "dict.en.txt", "dict.de.txt", "model.pt"):
        _copy(data / "dict.en.txt", folder / "published-model" / name)
    runs = folder / "runs/multi30k"
    for name in ("teacher", "plain", "word_kd"):
        _record_run(folder, runs / name)
    shutil.copytree(data, runs / "data-bin")
    _copy(seq_kd_teacher, runs / "teacher/checkpoint_best.pt")
    _copy(seq_kd_teacher, runs / "shipped/checkpoint_best.pt")
    _copy(corpus / "pieces/subwords.model", runs / "subwords/subwords.model")
    wmt = folder / "runs/wmt14_en_de"
    shutil.copytree(data, wmt / "data-bin")
    _copy(seq_kd_teacher, wmt / "tie_kd/average.pt")
    _copy(seq_kd_teacher, wmt / "teacher/checkpoint_best.pt")
    _copy(corpus / "pieces/subwords.model", wmt / "subwords/subwords.codes")  # recognised by its content
    return folder


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _record_run(folder: Path, run_folder: Path) -> None:
    """Write the files that scripts/train.sh and scripts/evaluate.sh write, after two updates."""
    method = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
    if run_folder.name == "word_kd":
        method = ["--criterion", "word_kd", "--teacher-path", folder / "teacher.pt"]
    dropout = "0.3" if run_folder.name == "teacher" else "0.1"
    run_folder.mkdir(parents=True)
    log = logging.FileHandler(run_folder / "train.log", encoding="utf-8")
    log.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.getLogger().addHandler(log)
    try:
        train_here(folder / "data-bin", run_folder, *method, "--dropout", dropout, "--max-update", "2", "--no-save")
    finally:
        logging.getLogger().removeHandler(log)
        log.close()
    references = (folder / "test.de").read_text(encoding="utf-8").splitlines()
    lines = (f"S-{n}\t{line}\nT-{n}\t{line}\nD-{n}\t-0.5\t{line}\n" for n, line in enumerate(references))
    (run_folder / "translations.txt").write_text("".join(lines), encoding="utf-8")


class _Lengths:
    """Takes the place of a COMET model: the shortest hypothesis is the best."""

    def __init__(self, name: str, folder: str):
        assert Path(folder).is_dir(), folder
        self.name, self.settings = name, {"stub": folder}

    def score(self, entries):
        return [[-len(text) for text in hypotheses] for _, hypotheses in entries]


@pytest.fixture
def prepared(workplace, tmp_path, monkeypatch) -> Path:
    """A copy of the workplace as the current folder, with stubs for COMET."""
    folder = tmp_path / "work"
    shutil.copytree(workplace, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    comet = SimpleNamespace(predict=lambda samples, **kwargs: SimpleNamespace(scores=[0.5 for _ in samples]))
    monkeypatch.setattr("nmt_kd.evaluation.comet.load_comet", lambda name: comet)
    for kind, name in (("CometUtility", "mbr"), ("CometQuality", "qe")):
        monkeypatch.setattr(f"nmt_kd.commands.assemble.{kind}", partial(_Lengths, name))
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_works_in_order(page, prepared):
    for language, block, before in blocks(TEXTS[page]):
        match language:
            case "bash":
                run_all(block)
            case "diff":
                before_change, after_change = changed(block)
                parse_training(before_change.words[1:])
                run(after_change)
            case "python":
                use_code(block, before)


def run_all(block: str) -> None:
    """Run the commands of a bash block."""
    for command in commands_of(block):
        try:
            run(command)
        except BaseException as error:
            error.add_note(f"in: {' '.join(command.words)}")
            raise


def changed(block: str) -> tuple[Command, Command]:
    """The command of a diff block before and after the change."""
    sides = ("".join(line[1:] + "\n" for line in block.splitlines() if line[0] in signs) for signs in (" -", " +"))
    (before,), (after,) = map(commands_of, sides)
    return before, after


def use_code(code: str, before: str) -> None:
    """Write code to the last file that the paragraph before it names, or run it if there is none."""
    paths = re.findall(r"`([\w/]+\.py)`", before)
    if not paths:
        exec(compile(code, "a page's code", "exec"), {"__name__": "page"})
        return
    Path(paths[-1]).parent.mkdir(parents=True, exist_ok=True)
    Path(paths[-1]).write_text(code, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_run(page):
    assert {language for language, *_ in blocks(TEXTS[page])} <= {"bash", "diff", "python", "text"}
    for language, block, _ in blocks(TEXTS[page]):
        if language == "text":
            assert not re.search(r"^(fairseq-|nmt-kd|bash |python )", block, re.MULTILINE)


@pytest.mark.parametrize("line", ["make all", "fairseq-train data-bin && ls", "cat test.de | wc", "nmt-kd x < test.de"])
def test_a_command_that_cannot_be_run_is_an_error(line):
    with pytest.raises(AssertionError, match="no test can run"):
        run_all(line)


TRAIN = "fairseq-train data-bin --user-dir nmt_kd --arch transformer"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{TRAIN} --criterion word_kd --no-such-flag", "(?m)^2$"),
        (f"{TRAIN} --criterion word_kd --teacher-path missing.pt", "missing.pt"),
        ("fairseq-train data-bin --arch transformer --criterion word_kd", "without --user-dir"),
        ("nmt-kd score --references missing.de --systems a=missing.de", "missing.de"),
        ("bash scripts/train.sh multi30k no_such_method", "no_such_method"),
        ("bash scripts/train.sh multi30k word_kd -- --no-such-flag", "(?m)^2$"),
        ("python scripts/benchmark.py --no-such-flag", "no --no-such-flag"),
        ("pip install '.[no-such-extra]'", "no-such-extra"),
        ("sbatch scripts/no-such.slurm", "no-such.slurm"),
    ],
)
def test_a_wrong_command_fails(line, message, prepared):
    with pytest.raises((AssertionError, SystemExit, UserError), match=message):
        run_all(line)
