import sys

import pytest
import torch

from nmt_kd.errors import UserError
from nmt_kd.evaluation.agreement import summarise
from nmt_kd.evaluation.agreement_measures import Bounds, BucketSums, groupings
from nmt_kd.evaluation.agreement_report import as_table, check_can_draw, draw
from nmt_kd.evaluation.calibration import CalibrationSums
from nmt_kd.evaluation.tables import FORMATS

MODELS = ("teacher", "student")


@pytest.fixture
def agreement():
    """Eight tokens, two in the first interval of confidence and six in the last."""
    sums = BucketSums(groupings(Bounds(), 200), torch.device("cpu"))
    token = [[1, 0, 4, 9, 0, 0]] * 2 + [[1, 1, 1, 3, 1, 1]] * 6
    numbers = {grouping.name: torch.ones(8, dtype=torch.long) for grouping in sums.groupings}
    numbers["teacher_confidence"] = torch.tensor([0.3] * 2 + [0.9] * 6)
    sums.add(torch.tensor(token), numbers)
    calibration = CalibrationSums(2, torch.device("cpu"))
    correct = torch.tensor([[0, 0]] * 2 + [[1, 1]] * 6)
    calibration.add(torch.tensor([[0.5, 0.25]] * 2 + [[0.75, 0.875]] * 6), correct)
    return summarise(sums, 5, calibration)


def test_the_table_has_a_row_for_all_tokens_and_for_each_bucket(agreement):
    table = as_table(agreement)
    assert len(table.rows) == 1 + 3 + 4 + 4 + 3
    assert table.header[4:6] == ["top-5 edit distance", "top-5 ranking distance"]
    assert table.header[6:] == [f"{of} {what}, %" for what in ("accuracy", "calibration error") for of in MODELS]
    first = ["all", "8", "100.00", "75.00", "1.75", "0.90", "75.00", "75.00"]
    assert table.rows[0] == [*first, "15.62", "31.25"]  # (2 * 0.25 + 6 * 0.125) / 8 and (2 * 0.5 + 6 * 0.25) / 8
    second = ["teacher's confidence: (0, 0.4]", "2", "25.00", "0.00", "4.00", "1.80", "0.00", "0.00"]
    assert table.rows[1] == [*second, "", ""]  # a bucket has no bins of its own
    assert table.rows[2] == ["teacher's confidence: (0.4, 0.7]", "0", "0.00", *[""] * 7]
    for write in FORMATS.values():
        assert "frequency rank: special symbols" in write(table)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG\r\n\x1a\n"), ("PDF", b"%PDF"), ("svg", b"<?xml")])
def test_the_plot_has_the_format_of_its_suffix(agreement, tmp_path, suffix, start):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"agreement.{suffix}"
    draw(agreement, file)
    assert file.read_bytes().startswith(start)
    assert file.stat().st_size > 5000


def test_a_plot_that_cannot_be_written_is_refused_in_advance(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(
        UserError, match=r"^unknown plot format 'agreement\.doc'; the file name must end in \.png, \.pdf, \.svg$"
    ):
        check_can_draw(tmp_path / "agreement.doc")
    with pytest.raises(UserError, match=r"agreement\.png: folder .*none does not exist; create it first"):
        check_can_draw(tmp_path / "none" / "agreement.png")


def test_a_folder_in_place_of_the_plot_is_refused(agreement, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(
        UserError, match=r"^cannot write .*folder\.png: Is a directory; choose another path with --plot$"
    ):
        draw(agreement, tmp_path / "folder.png")


def test_without_matplotlib_the_error_says_how_to_install_it(agreement, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"plots need matplotlib; pip install 'nmt-kd\[report\]'"):
        draw(agreement, tmp_path / "agreement.png")
