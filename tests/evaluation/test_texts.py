import pytest

from nmt_kd.cli import main
from nmt_kd.errors import UserError
from nmt_kd.evaluation.texts import check_same_length, generated_lines, read_lines

GENERATED = """S-1\tein Satz
T-1\ta sentence
H-1\t-0.5\tone sentence
D-1\t-0.5\tone sentence
P-1\t-0.5 -0.5
H-1\t-0.9\tthe sentence
D-1\t-0.9\tthe sentence
H-0\t-0.1\tnothing \u2028 at all .
D-0\t-0.1\tnothing \u2028 at all.
2026-01-01 10:00:00 | INFO | fairseq_cli.generate | Translated 2 sentences
"""


@pytest.fixture
def file(tmp_path):
    def write(content: bytes | str, name: str = "test.de"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_only_a_line_feed_ends_a_line(file):
    assert read_lines(file("ein\u2028Satz\x85\x0c\r\n\nzwei")) == ["ein\u2028Satz\x85\x0c", "", "zwei"]


def test_a_byte_order_mark_is_dropped(file):
    assert read_lines(file("\ufeffein Satz\n")) == ["ein Satz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "test.de is empty; it must have one line for each sentence"),
        (b" \n\n", "test.de is empty"),
        (
            "gut\nschön\n".encode() + "schön\n".encode("latin1"),
            "not valid UTF-8: line 3 contains the byte 0xf6; convert",
        ),
        (GENERATED, r"is not a file of sentences: line 1 is fairseq output \('S-1"),
        ("a\nH-7\t-0.3\tein Satz\n", "line 2 is fairseq output"),
        ("2026-01-01 10:00:00 | INFO | fairseq | x\n", "nmt-kd translations .*test.de > test.hypotheses$"),
    ],
)
def test_files_that_are_not_sentences_are_refused(file, content, message):
    with pytest.raises(UserError, match=message):
        read_lines(file(content))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.de does not exist; give an existing file"):
        read_lines(tmp_path / "none.de")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is a folder; give a file"):
        read_lines(tmp_path)


def test_a_checkpoint_is_not_taken_for_output_of_fairseq(file):
    with pytest.raises(UserError, match="not valid UTF-8: line 1 contains the byte 0x80"):
        generated_lines(file(b"\x80\x02}q\x00"), "H")


def test_files_of_different_length_are_refused(tmp_path):
    lines = {tmp_path / "a": ["x", "y"], tmp_path / "b": ["x", "y"], tmp_path / "c": ["x"]}
    with pytest.raises(UserError, match=r"c has 1 lines, but .*a has 2; each must have one line per sentence"):
        check_same_length(lines)


def test_the_best_hypotheses_come_in_the_order_of_the_data(file, capsys):
    path = file(GENERATED)
    assert generated_lines(path, "H") == ["nothing \u2028 at all .", "one sentence"]
    main(["translations", str(path)])
    assert capsys.readouterr().out == "nothing \u2028 at all.\none sentence\n"


def test_output_with_missing_sentences_is_refused(file):
    with pytest.raises(
        UserError, match=r"lacks 1 of 3 sentences \(the first missing one is 1\); rerun fairseq-generate"
    ):
        generated_lines(file("H-0\t-1\ta\nH-2\t-1\tc\n"), "H")
    with pytest.raises(UserError, match="has no lines that start with H-; give the output of fairseq-generate"):
        generated_lines(file("a\n"), "H")
