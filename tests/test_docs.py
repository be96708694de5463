"""What the README and docs/ say is true: every command runs, every name exists, every method is described."""

import logging
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import METHODS, ROOT, parse_training, train_here
from doc_commands import Command, commands_of, run
from fairseq import options
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY

from nmt_kd import cli
from nmt_kd.criterions.base import DistillationConfig
from nmt_kd.errors import UserError
from nmt_kd.tasks.seq_kd import SeqKDConfig

PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHIPPED = [name for name in METHODS if CRITERION_REGISTRY[name].__module__.startswith("nmt_kd.")]
LOG_FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"


@pytest.fixture(scope="session")
def workplace(corpus, data, seq_kd_teacher, tmp_path_factory) -> Path:
    """A folder in which whatever the pages name is there, and small."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(data, folder / "data-bin")
    for name in ("teacher.pt", "student.pt", *(f"checkpoints/checkpoint{epoch}.pt" for epoch in range(1, 6))):
        _copy(seq_kd_teacher, folder / name)
    _copy(corpus / "pieces/subwords.model", folder / "subwords.model")
    for language in ("en", "de"):
        _copy(corpus / f"text/test.{language}", folder / f"test.{language}")
    _copy(corpus / "text/valid.en", folder / "monolingual.en")
    references = (folder / "test.de").read_text(encoding="utf-8").splitlines()
    for name in ("plain", "word_kd"):
        for number, seed in enumerate(("", ".seed1", ".seed2")):
            lines = [" ".join(line.split()[number:]) or "." for line in references]
            (folder / f"{name}{seed}.de").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "comet-model").mkdir()
    for name in ("bpecodes", "dict.en.txt", "dict.de.txt", "model.pt"):
        _copy(data / "dict.en.txt", folder / "published-model" / name)
    runs = folder / "runs/multi30k"
    for name in ("teacher", "plain", "word_kd"):
        _record_run(folder, runs / name)
    shutil.copytree(data, runs / "data-bin")
    _copy(seq_kd_teacher, runs / "teacher/checkpoint_best.pt")
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
    """A run as scripts/train.sh and scripts/evaluate.sh leave it, of two updates."""
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


@pytest.fixture
def prepared(workplace, tmp_path, monkeypatch) -> Path:
    """A copy of the work place as the current folder, with every cache inside it and a COMET model that needs none."""
    folder = tmp_path / "work"
    shutil.copytree(workplace, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    comet = SimpleNamespace(predict=lambda samples, **kwargs: SimpleNamespace(scores=[0.5 for _ in samples]))
    monkeypatch.setattr("nmt_kd.evaluation.comet.load_comet", lambda name: comet)
    return folder


# -- commands and code ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works_in_the_order_in_which_it_is_shown(page, prepared):
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
        run(command)


def blocks(text: str):
    """The fenced blocks of a page: language, content, and the paragraph before."""
    for found in BLOCK.finditer(text):
        yield found[1], found[2], text[: found.start()].rstrip().rpartition("\n\n")[2]


def changed(block: str) -> tuple[Command, Command]:
    """The command of a diff block before and after the change."""
    sides = ("".join(line[1:] + "\n" for line in block.splitlines() if line[0] in signs) for signs in (" -", " +"))
    (before,), (after,) = map(commands_of, sides)
    return before, after


def use_code(code: str, before: str) -> None:
    """Put code into the file that the paragraph before it names last, or run it where that names none."""
    paths = re.findall(r"`([\w/]+\.py)`", before)
    if not paths:
        exec(compile(code, "a page's code", "exec"), {"__name__": "page"})
        return
    Path(paths[-1]).parent.mkdir(parents=True, exist_ok=True)
    Path(paths[-1]).write_text(code, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_of_a_kind_that_is_not_run(page):
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
        (f"{TRAIN} --criterion word_kd --no-such-flag", "2"),
        (f"{TRAIN} --criterion word_kd --teacher-path missing.pt", "missing.pt"),
        ("fairseq-train data-bin --arch transformer --criterion word_kd", "without --user-dir"),
        ("nmt-kd score --references missing.de --systems a=missing.de", "missing.de"),
        ("bash scripts/train.sh multi30k no_such_method", "no_such_method"),
        ("bash scripts/train.sh multi30k word_kd -- --no-such-flag", "2"),
        ("python scripts/benchmark.py --no-such-flag", "no --no-such-flag"),
        ("pip install '.[no-such-extra]'", "no-such-extra"),
        ("sbatch scripts/no-such.slurm", "no-such.slurm"),
    ],
)
def test_a_wrong_command_fails(line, message, prepared):
    with pytest.raises((AssertionError, SystemExit, UserError), match=message):
        run_all(line)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_repository_that_is_named_exists(page):
    names = set(re.findall(r"\b(?:scripts|configs|nmt_kd|tests|docs)/[\w/.-]*\w", TEXTS[page]))
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_that_is_named_exists(page, known_flags):
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", TEXTS[page]))
    assert sorted(named - known_flags) == []


@pytest.fixture(scope="session")
def known_flags() -> set[str]:
    parsers = [options.get_training_parser(), options.get_interactive_generation_parser()]
    flags = {"--no-deps", "--help", "--nodes", "--gpus-per-node", "--array", "--nproc-per-node", "--no-python"}
    for parser in parsers:
        flags |= set(parser._option_string_actions)
    for command in cli.build_parser()._subparsers._group_actions[0].choices.values():
        flags |= set(command._option_string_actions)
    for kind in (*(CRITERION_DATACLASS_REGISTRY[name] for name in SHIPPED), SeqKDConfig):
        flags |= set(own_options(kind))
    for file in [*(ROOT / "scripts").iterdir(), *(ROOT / "configs").rglob("*.sh")]:
        if file.is_file():
            flags |= set(re.findall(r"--[a-z][\w-]*", file.read_text(encoding="utf-8")))
    for name in ("transformer", "transformer_wmt_en_de_big_t2t"):
        arguments = ["data-bin", "--arch", name, "--criterion", "label_smoothed_cross_entropy"]
        arguments += ["--bpe", "sentencepiece", "--optimizer", "adam"]
        flags |= {"--" + flag.replace("_", "-") for flag in vars(parse_training(arguments).model)}
    flags |= {"--sentencepiece-model", "--reverse-share"}  # of fairseq's BPE and of the method in docs/extending.md
    return flags


# -- completeness -----------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 150


def test_every_page_is_reached_from_the_readme_and_from_the_index():
    pages = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")} - {"README.md"}
    assert set(re.findall(r"\(docs/([\w-]+\.md)", TEXTS["README.md"])) >= pages
    assert set(re.findall(r"\(([\w-]+\.md)", TEXTS["docs/README.md"])) == pages


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = heading.split(" ")[0]
    text = TEXTS[page].partition(f"\n{heading}\n")[2]
    assert text, f"{page} has no section {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def documented_options(text: str) -> dict[str, str]:
    """The flags in a section's tables, with their defaults."""
    rows = re.findall(r"^\| `(--[\w-]+)` \| `?([^`|]+?)`? \| \S", text, re.MULTILINE)
    assert len({flag for flag, _ in rows}) == len(rows)
    return dict(rows)


def own_options(kind: type, inherited: type | None = None) -> dict[str, str]:
    """The flags that a dataclass of options defines, with their defaults as a page shows them."""
    names = set(getattr(inherited, "__dataclass_fields__", ()))
    fields = {name: item for name, item in kind.__dataclass_fields__.items() if item.metadata.get("help")}
    return {"--" + name.replace("_", "-"): shown(item.default) for name, item in fields.items() if name not in names}


def shown(default) -> str:
    if default in ("", None):
        return "none"
    if isinstance(default, float):
        return f"{default:.3g}"
    return {False: "off", True: "on"}[default] if isinstance(default, bool) else str(default)


def test_the_options_of_all_methods_are_documented_with_their_defaults():
    assert documented_options(section("docs/methods.md", "### Options")) == own_options(DistillationConfig)


@pytest.mark.parametrize("method", SHIPPED)
def test_every_method_has_a_section_with_its_options_and_their_defaults(method):
    found = documented_options(section("docs/methods.md", f"## {method}"))
    options_of_method = own_options(CRITERION_DATACLASS_REGISTRY[method], DistillationConfig)
    assert {
        flag: default for flag, default in found.items() if default != "teacher layers, 6 to 2"
    } == options_of_method


def test_every_method_of_the_readme_exists():
    named = set(re.findall(r"^\| `(\w+)` \|", TEXTS["README.md"], re.MULTILINE))
    assert named
    assert named <= set(SHIPPED)


def test_the_options_of_the_task_are_documented_with_their_defaults():
    own = {flag: default for flag, default in own_options(SeqKDConfig).items() if flag.startswith("--distill-")}
    assert documented_options(section("docs/sequence-level.md", "## Options of the task")) == own


def test_every_command_of_nmt_kd_is_shown():
    shown_commands = {
        word
        for text in TEXTS.values()
        for language, block, _ in blocks(text)
        if language == "bash"
        for word in re.findall(r"^nmt-kd (\w+)", block, re.MULTILINE)
    }
    assert shown_commands == {path.stem for path in (ROOT / "nmt_kd/commands").glob("[a-z]*.py")}


@pytest.mark.parametrize(("heading", "folder"), [("## Experiments", "experiments"), ("## Data sets", "data")])
def test_every_experiment_and_data_set_is_listed(heading, folder):
    rows = [line.split("|")[1] for line in section("docs/recipes.md", heading).splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", "\n".join(rows))) == {
        path.stem for path in (ROOT / f"configs/{folder}").glob("*.sh")
    }


def test_every_script_is_described():
    described = set(re.findall(r"scripts/(\w+\.(?:sh|slurm))", TEXTS["docs/recipes.md"] + TEXTS["docs/costs.md"]))
    there = {path.name for path in (ROOT / "scripts").glob("*.s[hl]*")} - {"common.sh", "distill.slurm"}
    assert there <= described
