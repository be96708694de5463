"""Tables of results as plain text, Markdown, LaTeX and HTML. The first column names the row."""

import html
from collections.abc import Callable
from dataclasses import dataclass

NONE = "-"  # in place of a number that does not exist
LATEX_SPECIAL = str.maketrans({char: f"\\{char}" for char in "&%$#_{}"} | {"~": r"\textasciitilde{}"})


@dataclass(frozen=True)
class Table:
    """A header and rows of formatted cells."""

    header: list[str]
    rows: list[list[str]]

    @property
    def widths(self) -> list[int]:
        """The width of each column in characters."""
        return [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]


def number(value: float | int | None) -> str:
    """Format a number: integers in full, floats with two decimals below 10, one below 1,000; None as a dash."""
    if value is None:
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0}f}"


def _padded(cells: list[str], widths: list[int]) -> list[str]:
    return [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def as_text(table: Table) -> str:
    """Format a table for a terminal, in columns separated by spaces."""
    lines = ["  ".join(_padded(cells, table.widths)).rstrip() for cells in (table.header, *table.rows)]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def as_markdown(table: Table) -> str:
    """Format a table in GitHub's Markdown."""
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
    """Format a table as a LaTeX tabular environment with the rules of the booktabs package."""
    lines = [
        " & ".join(cell.translate(LATEX_SPECIAL) for cell in cells) + r" \\" for cells in (table.header, *table.rows)
    ]
    columns = "l" + "r" * (len(table.header) - 1)
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", end])


def as_html(table: Table, kind: str = "") -> str:
    """Format a table as an HTML table element of the class `kind`; the first cell of each row is its heading."""

    def row(cells: list[str], first: str, others: str) -> str:
        tags = [first] + [others] * (len(cells) - 1)
        return "<tr>" + "".join(f"<{t}>{html.escape(c)}</{t}>" for t, c in zip(tags, cells, strict=True)) + "</tr>"

    body = "\n".join(row(cells, "th", "td") for cells in table.rows)
    opening = f'<table class="{kind}">' if kind else "<table>"
    return f"{opening}\n<thead>{row(table.header, 'th', 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


FORMATS: dict[str, Callable[[Table], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex}
