"""Tables of results, as people put them into terminals, pages and papers. The first column names a row."""

import html
from collections.abc import Callable
from dataclasses import dataclass

LATEX_SPECIAL = str.maketrans({char: f"\\{char}" for char in "&%$#_{}"} | {"~": r"\textasciitilde{}"})


@dataclass(frozen=True)
class Table:
    """A header and rows of cells that are text already."""

    header: list[str]
    rows: list[list[str]]

    @property
    def widths(self) -> list[int]:
        """The width of each column in characters."""
        return [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]


def number(value: float | int | None) -> str:
    """A figure with as many digits as one reads: two below ten, one below a thousand; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0}f}"


def _padded(cells: list[str], widths: list[int]) -> list[str]:
    return [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def as_text(table: Table) -> str:
    """Columns with spaces between, for a terminal."""
    lines = ["  ".join(_padded(cells, table.widths)).rstrip() for cells in (table.header, *table.rows)]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown."""
    escaped = Table(
        [cell.replace("|", r"\|") for cell in table.header],
        [[cell.replace("|", r"\|") for cell in row] for row in table.rows],
    )
    widths = escaped.widths
    rule = ["-" * (width - bool(column)) + ":" * bool(column) for column, width in enumerate(widths)]
    return "\n".join(
        f"| {' | '.join(cells)} |"
        for cells in (
            _padded(escaped.header, widths),
            rule,
            *(_padded(row, widths) for row in escaped.rows),
        )
    )


def as_latex(table: Table) -> str:
    """A tabular environment with the rules of the package booktabs."""
    lines = [
        " & ".join(cell.translate(LATEX_SPECIAL) for cell in cells) + r" \\" for cells in (table.header, *table.rows)
    ]
    columns = "l" + "r" * (len(table.header) - 1)
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", end])


def as_html(table: Table) -> str:
    """A table element; the first cell of each row is its heading."""

    def row(cells: list[str], first: str, others: str) -> str:
        tags = [first] + [others] * (len(cells) - 1)
        return "<tr>" + "".join(f"<{t}>{html.escape(c)}</{t}>" for t, c in zip(tags, cells, strict=True)) + "</tr>"

    body = "\n".join(row(cells, "th", "td") for cells in table.rows)
    return f"<table>\n<thead>{row(table.header, 'th', 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


FORMATS: dict[str, Callable[[Table], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex}
