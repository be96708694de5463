"""The names in the README and docs/ exist, and every option, command, data set and experiment is documented."""

import argparse
import re

import pytest
from conftest import METHODS, ROOT, parse_training
from doc_pages import PAGES, TEXTS, anchors, blocks, section
from fairseq import options
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.models.multilingual_transformer import MultilingualTransformerModel
from fairseq.tasks.multilingual_translation import MultilingualTranslationTask

from nmt_kd import cli
from nmt_kd.caching.sources import knn
from nmt_kd.tasks.seq_kd import SeqKDConfig

DOCUMENTED = re.findall(r"^## ([a-z]\w+)$", TEXTS["docs/methods.md"], re.MULTILINE)


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
    """The flags of all programs that the pages use."""
    flags = {
        "--help",
        "--no-deps",
        "--nodes",
        "--gpus-per-node",
        "--array",
        "--wrap",
        "--nproc-per-node",
        "--no-python",
        "--no-shortlist",
    }
    commands = cli.build_parser()._subparsers._group_actions[0].choices.values()
    for parser in (options.get_training_parser(), options.get_interactive_generation_parser(), *commands):
        flags |= set(parser._option_string_actions)
    for multilingual in (MultilingualTranslationTask, MultilingualTransformerModel):
        multilingual.add_args(parser := argparse.ArgumentParser())
        flags |= set(parser._option_string_actions)
    for kind in (*(CRITERION_DATACLASS_REGISTRY[name] for name in DOCUMENTED), SeqKDConfig):
        flags |= set(own_options(kind))
    program = ROOT / "nmt_kd/exporting/translate.py"
    for file in [program, *(ROOT / "scripts").glob("*.*"), *(ROOT / "configs").rglob("*.sh")]:
        flags |= set(re.findall(r"--[a-z][\w-]*", file.read_text(encoding="utf-8")))
    arguments = ["data-bin", "--arch", "transformer", "--criterion", "label_smoothed_cross_entropy"]
    of_fairseq = vars(
        parse_training([*arguments, "--bpe", "sentencepiece", "--sentencepiece-model", "", "--optimizer", "adam"]).model
    )
    of_pages = re.findall(r"^    (\w+): .* = option\(", "\n".join(TEXTS.values()), re.MULTILINE)
    return flags | {"--" + name.replace("_", "-") for name in (*of_fairseq, *of_pages)}


# -- completeness -----------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 150


def test_every_page_is_reached_from_the_readme_and_from_the_index():
    pages = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")} - {"README.md"}
    assert set(re.findall(r"\(docs/([\w-]+\.md)", TEXTS["README.md"])) >= pages
    assert set(re.findall(r"\(([\w-]+\.md)", TEXTS["docs/README.md"])) == pages


def documented_options(text: str) -> dict[str, str]:
    """The flags in a section's tables, with their defaults."""
    rows = re.findall(r"^\| `(--[\w-]+)` \| `?([^`|]+?)`? \| \S", text, re.MULTILINE)
    assert len({flag for flag, _ in rows}) == len(rows)
    return dict(rows)


def own_options(kind: type) -> dict[str, str]:
    """The flags of a dataclass of options, with their defaults as a page shows them."""
    fields = {name: item for name, item in kind.__dataclass_fields__.items() if item.metadata.get("help")}
    return {"--" + name.replace("_", "-"): shown(item.default) for name, item in fields.items()}


def shown(default) -> str:
    if default in ("", None):
        return "none"
    if isinstance(default, float):
        return f"{default:.3g}"
    return {False: "off", True: "on"}[default] if isinstance(default, bool) else str(default)


def test_every_documented_method_exists():
    assert len(DOCUMENTED) >= 10
    assert set(DOCUMENTED) <= set(METHODS)


@pytest.mark.parametrize("method", DOCUMENTED)
def test_every_option_of_every_method_is_documented_with_its_default(method):
    shared = documented_options(section("docs/methods.md", "### Options"))
    found = documented_options(section("docs/methods.md", f"## {method}"))
    own = own_options(CRITERION_DATACLASS_REGISTRY[method])
    assert found.items() <= own.items()
    assert own.items() <= {**shared, **found}.items()


def test_every_option_of_nearest_neighbours_is_documented_with_its_default():
    assert documented_options(section("docs/nearest-neighbours.md", "## Options")) == own_options(knn.Options)


def test_every_shared_option_is_one_of_some_method():
    of_methods = {item for method in DOCUMENTED for item in own_options(CRITERION_DATACLASS_REGISTRY[method]).items()}
    assert documented_options(section("docs/methods.md", "### Options")).items() <= of_methods


def test_every_method_of_the_readme_exists():
    named = set(re.findall(r"^\| `(\w+)` \|", TEXTS["README.md"], re.MULTILINE))
    assert named
    assert named <= set(DOCUMENTED)


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
    there = {path.stem for path in (ROOT / "configs" / folder).glob("*.sh")}
    assert set(re.findall(r"`(\w+)`", "\n".join(rows))) == there


def test_every_script_is_described():
    described = set(re.findall(r"scripts/(\w+\.(?:sh|slurm))", TEXTS["docs/recipes.md"] + TEXTS["docs/costs.md"]))
    there = {path.name for path in (ROOT / "scripts").glob("*.s[hl]*")} - {"distill.slurm"}
    sourced = {"common.sh", "decoding.sh", "own_text.sh", "steps.sh"}
    assert there - sourced <= described
