"""Format a report as one self-contained HTML page, to be read on a screen, on a phone and on paper."""

import base64
import html

import nmt_kd
from nmt_kd.evaluation.drawing import as_svg
from nmt_kd.evaluation.examples import EMPTY, Comparison, Example, parts_by_presence
from nmt_kd.evaluation.sections import Plot, Section
from nmt_kd.evaluation.tables import Table, as_html

# Shadows at the sides of a table show that there is more to scroll to.
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
body { overflow-wrap: anywhere; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } h3 { margin: 1.2rem 0 0.4rem; }
.wide { overflow-x: auto; background: linear-gradient(to right, #fff 30%, #fff0) left / 3rem 100% no-repeat local,
  linear-gradient(to left, #fff 30%, #fff0) right / 3rem 100% no-repeat local,
  linear-gradient(to right, #0003, #0000) left / 0.8rem 100% no-repeat scroll,
  linear-gradient(to left, #0003, #0000) right / 0.8rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.25rem 0.7rem; text-align: right; white-space: nowrap; }
td { border-top: 1px solid #ddd; } tbody th { border-top: 1px solid #ddd; font-weight: normal; }
th:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 1.5px solid #111; vertical-align: bottom; white-space: normal; }
table.settings td { white-space: normal; overflow-wrap: anywhere; min-width: 5rem; vertical-align: top; }
table.settings th { white-space: normal; overflow-wrap: anywhere; min-width: 5rem; vertical-align: top; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption, .note { color: #444; font-size: 0.88rem; }
summary { cursor: pointer; font-weight: bold; padding: 0.4rem 0; }
.example { border-top: 1px solid #ddd; margin: 0; padding: 0.5rem 0; display: grid; column-gap: 1rem; }
.example { grid-template-columns: minmax(6rem, 11rem) 1fr; }
dt { color: #444; font-size: 0.88rem; } dd { margin: 0; } dt.reference, dd.reference { font-weight: 600; }
mark { background: #fbe3b5; color: inherit; text-decoration: underline; text-decoration-color: #d55e00; }
@media (max-width: 40rem) {
  body { margin: 1rem auto; padding: 0 0.75rem; }
  th:first-child { position: sticky; left: 0; background: #fff; max-width: 8rem; overflow-wrap: anywhere; }
  .example { display: block; } dd { margin-bottom: 0.35rem; }
}
@media print {
  h2 { break-after: avoid; } figure, table, .example { break-inside: avoid; }
  .wide { overflow: visible; background: none; } table { font-size: 0.75rem; } th, td { padding: 0.2rem 0.35rem; }
}
"""
NARROW = "(max-width: 40rem)"


def page(sections: list[Section], title: str = "Distillation report") -> str:
    """Return the page, with all pictures and styles in it."""
    body, title = "", html.escape(title)
    for section in sections:
        body += f"<h2>{html.escape(section.title)}</h2>\n"
        comparisons = 0
        for part in section.parts:
            if isinstance(part, Table):
                kind = "settings" if part.header[0] == "setting" else ""
                body += f'<div class="wide" tabindex="0">{as_html(part, kind)}</div>\n'
            elif isinstance(part, Plot):
                body += _figure(part)
            elif isinstance(part, Comparison):
                body += _comparison(part, opened=comparisons == 0)
                comparisons += 1
            else:
                body += f'<p class="note">{html.escape(part)}</p>\n'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>\n"
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{body}"
        f'<p class="note">nmt-kd {nmt_kd.__version__}</p>\n</body></html>\n'
    )


def _figure(plot: Plot) -> str:
    wide, narrow = (
        f"data:image/svg+xml;base64,{base64.b64encode(as_svg(plot.draw(shape))).decode()}" for shape in (False, True)
    )
    caption = html.escape(plot.caption)
    return (
        f'<figure><picture><source media="{NARROW}" srcset="{narrow}"><img alt="{caption}" src="{wide}"></picture>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _comparison(comparison: Comparison, opened: bool) -> str:
    text = f"<details{' open' if opened else ''}><summary>{html.escape(comparison.system)}</summary>\n"
    for title, examples in comparison.groups.items():
        text += f"<h3>{html.escape(title)}</h3>\n"
        text += "".join(_example(example, comparison.languages) for example in examples)
    return f"{text}</details>\n"


def _example(example: Example, languages: tuple[str, str]) -> str:
    source_lang, target_lang = (html.escape(language) for language in languages)
    lines = [
        f'<dt>source, line {example.number}</dt><dd lang="{source_lang}" dir="auto">{html.escape(example.source)}</dd>',
        f'<dt class="reference">reference</dt><dd class="reference" lang="{target_lang}" dir="auto">'
        f"{html.escape(example.reference)}</dd>",
    ]
    for translation in example.translations:
        text = "".join(
            html.escape(part) if present else f"<mark>{html.escape(part)}</mark>"
            for part, present in parts_by_presence(translation.text, example.reference)
        )
        lines.append(
            f"<dt>{html.escape(translation.system)}, {translation.chrf:.1f}</dt>"
            f'<dd lang="{target_lang}" dir="auto">{text or EMPTY}</dd>'
        )
    return '<dl class="example">' + "\n".join(lines) + "</dl>\n"
