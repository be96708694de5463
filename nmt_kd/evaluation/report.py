"""Write one HTML page about several training runs: scores, learning curves, costs, and settings that differ."""

import base64
import html
from pathlib import Path

import nmt_kd
from nmt_kd.errors import UserError
from nmt_kd.evaluation.drawing import as_png, as_svg, pyplot, styles
from nmt_kd.evaluation.report_plots import Plot, learning_curves, trade_off, training_losses
from nmt_kd.evaluation.report_tables import (
    Metrics,
    Scores,
    costs_table,
    results_table,
    score_data_set,
    settings_table,
)
from nmt_kd.evaluation.runs import Run
from nmt_kd.evaluation.systems import systems_of
from nmt_kd.evaluation.tables import as_html

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; text-align: right; white-space: nowrap; }
td { border-top: 1px solid #ddd; } tbody th { border-top: 1px solid #ddd; font-weight: normal; }
th:first-child { text-align: left; }
thead th { border-bottom: 1.5px solid #111; vertical-align: bottom; white-space: normal; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption, .note { color: #444; font-size: 0.88rem; }
@media print { h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""


NOTE_ON_COSTS = (
    "Minutes cover training alone, over all restarts; seconds per update are the median. Times are comparable only if "
    "measured on the same machine without other load."
)
NOTE_ON_SETTINGS = "All other settings are the same. An empty cell means that the system has no such setting."


def write_report(runs: list[Run], folder: Path, baseline: str | None, metrics_for: Metrics) -> Path:
    """Write a self-contained page, index.html, and its plots as PNGs into `folder`, and return the page's path.

    `baseline` names the system that the others are compared with; the default is `plain`, if there is such a system.
    Raises UserError if a folder is not a run or the baseline is not one of the systems.
    """
    systems = systems_of(runs)
    names = [system.name for system in systems]
    if baseline is not None and baseline not in names:
        raise UserError(f"unknown baseline {baseline!r}; choose from {', '.join(dict.fromkeys(names))}")
    baseline = baseline or ("plain" if "plain" in names else None)
    by_data_set = {
        data_set: [system for system in systems if system.data_set == data_set]
        for data_set in dict.fromkeys(system.data_set for system in systems)
    }
    scores: dict[str, Scores] = {}
    signatures: list[str] = []
    for data_set, found in by_data_set.items():
        scores[data_set], signatures = score_data_set(found, baseline, metrics_for)
    style_of = dict(zip(dict.fromkeys(names), styles(), strict=False))
    sections = [
        ("Results", as_html(results_table(scores, baseline)), _note_on_results(signatures, baseline)),
        ("Size, time and agreement", as_html(costs_table(systems)), NOTE_ON_COSTS),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for data_set, found in by_data_set.items():
        prefix = f"{data_set}_" if len(by_data_set) > 1 else ""
        plots = learning_curves(found, style_of) + training_losses(found, style_of)
        plots += trade_off(found, scores[data_set], style_of)
        figures = "".join(_save_and_embed(plot, folder / f"{prefix}{plot.name}.png") for plot in plots)
        sections.append((f"Learning and trade-offs, {data_set}", figures, ""))
        sections.append((f"Settings that differ, {data_set}", as_html(settings_table(found)), NOTE_ON_SETTINGS))
    pyplot().close("all")
    page = folder / "index.html"
    page.write_text(_page(sections), encoding="utf-8")
    return page


def _save_and_embed(plot: Plot, png: Path) -> str:
    """Write the plot to the file `png`, and return it as an HTML figure with the picture embedded as SVG."""
    png.write_bytes(as_png(plot.figure))
    picture = base64.b64encode(as_svg(plot.figure)).decode()
    caption = html.escape(plot.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{picture}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _note_on_results(signatures: list[str], baseline: str | None) -> str:
    text = " ".join([*signatures, "± is the standard deviation over runs with different seeds."])
    if baseline:
        text += (
            f" Differences and significance are relative to {baseline}: ** p < 0.01, * p < 0.05, in both the paired "
            "bootstrap (1,000 samples) and the approximate randomisation test (10,000 trials)."
        )
    return text


def _page(sections: list[tuple[str, str, str]]) -> str:
    body = ""
    for title, content, note in sections:
        body += f'<h2>{html.escape(title)}</h2>\n<div class="wide">{content}</div>\n'
        body += f'<p class="note">{html.escape(note)}</p>\n' if note else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Distillation report</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>Distillation report</h1>\n{body}"
        f'<p class="note">nmt-kd {nmt_kd.__version__}</p>\n</body></html>\n'
    )
