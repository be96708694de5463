"""Text files as records in blocks, with errors that name the line."""

import hashlib

import pytest

from nmt_kd.decoding.text_files import TextFiles
from nmt_kd.errors import UserError


def write(path, content: bytes):
    path.write_bytes(content)
    return path


def test_blocks_run_on_from_file_to_file(tmp_path):
    paths = [
        write(tmp_path / "a", b"1\n2\r\n3"),
        write(tmp_path / "b", b""),
        write(tmp_path / "c", "\u00e9\u2028x\n5\n".encode()),
    ]
    text = TextFiles(paths, 2)
    assert len(text) == 5
    found = [[(line.text, line.file.name, line.number) for (line,) in text.block(block)] for block in range(3)]
    assert found == [
        [("1", "a", 1), ("2", "a", 2)],
        [("3", "a", 3), ("\u00e9\u2028x", "c", 1)],
        [("5", "c", 2)],
    ]
    assert [record[0].text for record in text.records()] == ["1", "2", "3", "\u00e9\u2028x", "5"]
    assert text.checksum == "+".join(hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in paths)


def test_lines_that_belong_together_are_one_record_within_a_file(tmp_path):
    paths = [write(tmp_path / "a", b"a1\na2\nb1\n"), write(tmp_path / "b", b"b2\nb3\na1\n")]
    text = TextFiles(paths, 1, joins=lambda before, line: before.text[0] == line.text[0])
    blocks = [[line.text for line in record] for block in range(len(text)) for record in text.block(block)]
    assert blocks == [["a1", "a2"], ["b1"], ["b2", "b3"], ["a1"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\xe9t\xe9\n", "text, line 2: not UTF-8; convert the file to UTF-8"),
        (b"", "text: no lines; give files with"),
    ],
)
def test_text_that_cannot_be_read_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        TextFiles([write(tmp_path / "text", content)], 2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none: No such file or directory; give files"):
        TextFiles([tmp_path / "none"], 2)
