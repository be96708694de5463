"""The pages of the documentation, their blocks, sections and anchors."""

import re
from collections.abc import Iterator

from conftest import ROOT

PAGES = {path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """The fenced blocks of a page: language, content, and the paragraph before."""
    for found in BLOCK.finditer(text):
        yield found[1], found[2], text[: found.start()].rstrip().rpartition("\n\n")[2]


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next heading of the same level or above."""
    level = heading.split(" ")[0]
    text = TEXTS[page].partition(f"\n{heading}\n")[2]
    assert text, f"{page} has no section {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
