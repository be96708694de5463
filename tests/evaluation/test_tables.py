from nmt_kd.evaluation.tables import Table, as_html, as_latex, as_markdown, as_text, number

TABLE = Table(["system", "BLEU | %"], [["plain & simple", "31.0"], ["word_kd", "31.80 **"]])


def test_text_is_aligned():
    assert as_text(TABLE).splitlines() == [
        "system          BLEU | %",
        "------------------------",
        "plain & simple      31.0",
        "word_kd         31.80 **",
    ]


def test_markdown_is_aligned_and_escaped():
    assert as_markdown(TABLE).splitlines() == [
        r"| system         | BLEU \| % |",
        "| -------------- | --------: |",
        "| plain & simple |      31.0 |",
        "| word_kd        |  31.80 ** |",
    ]


def test_latex_is_a_tabular_with_special_characters_escaped():
    assert as_latex(TABLE).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"system & BLEU | \% \\",
        r"\midrule",
        r"plain \& simple & 31.0 \\",
        r"word\_kd & 31.80 ** \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_html_is_escaped_and_names_rows():
    page = as_html(TABLE)
    assert "<tr><th>plain &amp; simple</th><td>31.0</td></tr>" in page
    assert "<thead><tr><th>system</th><th>BLEU | %</th></tr></thead>" in page


def test_numbers_are_rounded_to_a_readable_number_of_digits():
    assert [number(value) for value in (None, 0.123, 31.04, 1234.5, 7041024, -2.0)] == [
        *("-", "0.12", "31.0", "1,234", "7,041,024", "-2.00"),
    ]
