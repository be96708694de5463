"""Format a report as Markdown, with pictures in files next to it."""

import re

import nmt_kd
from nmt_kd.evaluation.examples import EMPTY, Comparison, Example, parts_by_presence
from nmt_kd.evaluation.sections import Plot, Section
from nmt_kd.evaluation.tables import Table, as_markdown

SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$])")


def page(sections: list[Section]) -> str:
    """Return the report as Markdown; it refers to the plots by their names as PNG files."""
    blocks = ["# Distillation report"]
    for section in sections:
        blocks.append(f"## {escape(section.title)}")
        for part in section.parts:
            if isinstance(part, Table):
                blocks.append(as_markdown(part))
            elif isinstance(part, Plot):
                blocks.append(f"![{escape(part.caption)}]({part.name}.png)\n\n{escape(part.caption)}")
            elif isinstance(part, Comparison):
                blocks += _comparison(part)
            else:
                blocks.append(escape(part))
    return "\n\n".join([*blocks, f"nmt-kd {nmt_kd.__version__}"]) + "\n"


def escape(text: str) -> str:
    """Return the text on one line, with all characters that mean something in Markdown or HTML escaped."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _comparison(comparison: Comparison) -> list[str]:
    blocks = [f"### {escape(comparison.system)}"]
    for title, examples in comparison.groups.items():
        blocks += [f"#### {escape(title)}", *map(_example, examples)]
    return blocks


def _example(example: Example) -> str:
    lines = [f"source, line {example.number}: {escape(example.source)}", f"reference: {escape(example.reference)}"]
    for translation in example.translations:
        text = "".join(
            f"{' ' * part.startswith(' ')}{_marked(part, present)}{' ' * part.endswith(' ')}"
            for part, present in parts_by_presence(" ".join(translation.text.split()), example.reference)
        )
        lines.append(f"{escape(translation.system)}, {translation.chrf:.1f}: {text or EMPTY}")
    return "\n".join(f"- {line}" for line in lines)


def _marked(part: str, present: bool) -> str:
    return escape(part) if present else f"**{escape(part)}**"
