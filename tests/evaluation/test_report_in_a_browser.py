"""A browser without a network shows the whole report, on a large screen and on a phone."""

import html
import json
import re
import shutil
import subprocess

import pytest
from recorded_runs import with_setting

from nmt_kd.cli import main

pytest_plugins = ["recorded_runs"]
pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")

MEASURES = """<script>onload = () => parent.postMessage(JSON.stringify({
  page: [document.documentElement.scrollWidth, document.documentElement.clientWidth],
  tables: [...document.querySelectorAll(".wide")].map(wide => [wide.scrollWidth, wide.clientWidth]),
  pictures: [...document.images].filter(image => image.complete && image.naturalWidth > 100).map(image => image.width),
  shapes: [...document.images].map(image => image.height / image.width),
}), "*")</script>"""


@pytest.fixture
def show(tmp_path):
    """A function that opens a page in a frame as wide as a screen, and returns the page's MEASURES."""

    def show(page: str, width: int) -> dict:
        (tmp_path / "page.html").write_text(page.replace("</body>", f"{MEASURES}</body>"), encoding="utf-8")
        frame = tmp_path / "frame.html"  # a window cannot be as narrow as a phone
        frame.write_text(
            "<script>onmessage = message => document.title = message.data</script>"
            f'<iframe src="page.html" style="width: {width}px; height: 800px; border: 0"></iframe>',
            encoding="utf-8",
        )
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
        browser += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
        shown = subprocess.run([*browser, f"file://{frame}"], capture_output=True, text=True, timeout=120, check=True)
        return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", shown.stdout)[1]))

    return show


@pytest.fixture
def page(variation, tmp_path) -> str:
    """A report on a teacher and four students that differ in several settings, some of them long."""
    folders = [variation("plain")]
    for number, name in enumerate(("teacher", "word_kd", "selective_kd_with_a_long_name", "tie_kd"), 1):
        changes = [with_setting("kd_alpha", f"0.{number}"), with_setting("warmup_updates", str(number))]
        changes.append(with_setting("teacher_path", f"'/home/someone/runs/{name}/checkpoints/checkpoint_best.pt'"))
        folders.append(variation(name, log=lambda log, changes=changes: _apply(changes, log)))
    main(["report", *map(str, folders), "--output", str(tmp_path / "report")])
    return (tmp_path / "report/index.html").read_text(encoding="utf-8")


def _apply(changes, log: str) -> str:
    for change in changes:
        log = change(log)
    return log


def test_every_picture_is_shown_in_a_shape_that_fits_the_screen(page, show):
    large, phone = show(page, 1280), show(page, 360)
    assert len(large["pictures"]) == len(phone["pictures"]) == 4
    assert max(phone["pictures"]) <= 360
    assert max(large["shapes"]) < 1 < min(phone["shapes"])  # panels side by side, or one above the other


def test_the_settings_of_five_systems_fit_a_large_screen(page, show):
    settings = show(page, 1280)["tables"][-1]
    assert settings[0] <= settings[1]


def test_the_page_fits_a_phone_and_tables_scroll_in_their_own_boxes(page, show):
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    phone = show(page, 360)
    assert phone["page"][0] <= phone["page"][1] <= 360
    assert all(box <= 360 for _, box in phone["tables"])
    assert any(table > box for table, box in phone["tables"])
