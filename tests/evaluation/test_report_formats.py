"""The text of translations in HTML and Markdown."""

import re

import pytest

from nmt_kd.evaluation import report_html, report_markdown
from nmt_kd.evaluation.examples import Comparison, Example, Translation
from nmt_kd.evaluation.sections import Section

NASTY = "<script>alert('x & y')</script> *bold* | cell [link](http://x) `code` <b>x</b> 5 < 6 $a$ \\"


@pytest.fixture
def section() -> Section:
    translations = [
        Translation("<i>plain</i>", "a dog_s tail", 51.26),
        Translation("tie_kd", f"a dog {NASTY}", 12.0),
    ]
    example = Example(7, NASTY, "a dog", translations)
    return Section("Translations <side> by side", [Comparison("tie_kd", ("en", "de"), {"Worst": [example]})])


def test_html_shows_text_as_text(section):
    page = report_html.page([section])
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<h2>Translations &lt;side&gt; by side</h2>" in page
    assert '<dt>source, line 7</dt><dd lang="en" dir="auto">&lt;script&gt;alert(&#x27;x &amp; y' in page
    assert '<dd class="reference" lang="de" dir="auto">a dog</dd>' in page
    assert '<dt>&lt;i&gt;plain&lt;/i&gt;, 51.3</dt><dd lang="de" dir="auto">a <mark>dog_s tail</mark></dd>' in page
    assert '<dd lang="de" dir="auto">a dog <mark>&lt;script&gt;alert(' in page


def test_markdown_shows_text_as_text(section):
    page = report_markdown.page([section])
    assert page.count("\n- ") == 4
    assert "- source, line 7: \\<script\\>alert('x \\& y')\\</script\\> \\*bold\\* \\| cell \\[link\\](http" in page
    assert "- \\<i\\>plain\\</i\\>, 51.3: a **dog\\_s tail**\n" in page
    assert not re.search(r"(?<!\\)[<>`|$]", page)


def test_an_empty_translation_is_shown_as_empty():
    example = Example(1, "a dog", "ein Hund", [Translation("tie_kd", "", 0.0)])
    section = Section("Translations", [Comparison("tie_kd", ("en", "de"), {"Worst": [example]})])
    assert '<dt>tie_kd, 0.0</dt><dd lang="de" dir="auto">(empty)</dd>' in report_html.page([section])
    assert "- tie\\_kd, 0.0: (empty)" in report_markdown.page([section])


def test_the_first_comparison_of_a_section_is_open(section):
    page = report_html.page([Section("Two", section.parts * 2)])
    assert re.findall(r"<details.*?>", page) == ["<details open>", "<details>"]
