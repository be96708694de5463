import errno
import json
import os

import pytest

from nmt_kd.errors import UserError
from nmt_kd.storage import manifest
from nmt_kd.storage.manifest import Manifest, SentenceReport, write_durably


@pytest.fixture
def kept(tmp_path):
    return Manifest(tmp_path / "out", "numbers", "count --folder OUT", "--folder", noted={"version": 2})


def test_the_first_to_come_notes_the_settings_and_others_must_have_the_same(kept):
    kept.claim({"beam": 4})
    kept.claim({"beam": 4})
    assert kept.read() == {"beam": 4, "version": 2}
    with pytest.raises(
        UserError, match=r"out was made with beam 4, this run has 5; give the same settings to go on, or"
    ):
        kept.claim({"beam": 5})
    with pytest.raises(UserError, match=r"with lenpen None, this run has 1; .* another --folder to begin anew"):
        kept.claim({"beam": 4, "lenpen": 1})
    assert [path.name for path in kept.folder.iterdir()] == ["manifest.json"]


def test_what_is_only_noted_may_change(kept):
    kept.claim({"beam": 4})
    Manifest(kept.folder, "numbers", "count", noted={"version": 3}).claim({"beam": 4})
    assert json.loads(kept.path.read_text())["version"] == 2


def test_a_folder_without_one_says_what_makes_it(kept):
    with pytest.raises(UserError, match=r"holds no numbers \(no manifest.json\); make them with count --folder OUT"):
        kept.read()


@pytest.mark.parametrize("text", ['{"beam":', "[]", ""])
def test_a_damaged_one_is_named(kept, text):
    kept.folder.mkdir()
    kept.path.write_text(text)
    with pytest.raises(UserError, match=r"manifest.json is damaged; delete it and run the same command again"):
        kept.claim({"beam": 4})


def test_a_folder_that_cannot_be_written_is_named(kept, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(manifest, "write_durably", refuse)
    with pytest.raises(UserError, match=r"cannot write into .*out: No space left on device; give a folder"):
        kept.claim({})


def test_a_file_is_on_disk_when_it_is_written(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(manifest.os, "fsync", lambda descriptor: synced.append((tmp_path / "a").read_bytes()))
    write_durably(tmp_path / "a", [b"one", b"two"])
    assert synced == [b"onetwo"]


def test_progress_is_reported_every_few_seconds_and_at_the_end(monkeypatch, caplog):
    clock = iter([0.0, 4.0, 20.0, 21.0])
    monkeypatch.setattr(manifest.time, "monotonic", lambda: next(clock))
    with caplog.at_level("INFO", logger="nmt_kd.storage.manifest"):
        report = SentenceReport(4000, "train")
        for _ in range(3):
            report.add(1000 if report.done < 2000 else 2000)
    assert [record.getMessage() for record in caplog.records] == [
        "train: 2,000 of 4,000 sentences, 100.0 sentences/s, 0.3 min left",
        "train: 4,000 of 4,000 sentences, 190.5 sentences/s, 0.0 min left",
    ]
