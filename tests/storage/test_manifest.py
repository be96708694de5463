import errno
import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from nmt_kd.errors import UserError
from nmt_kd.storage import atomic
from nmt_kd.storage.manifest import Manifest


@pytest.fixture
def kept(tmp_path):
    return Manifest(tmp_path / "out", "numbers", "count --folder OUT", "--folder", noted={"version": 2})


def test_the_first_to_come_notes_the_settings_and_others_must_have_the_same(kept):
    kept.claim({"beam": 4})
    kept.claim({"beam": 4})
    assert kept.read() == {"beam": 4, "version": 2}
    with pytest.raises(
        UserError, match=r"out was made with beam 4, but this run has 5; use the same settings to resume, or"
    ):
        kept.claim({"beam": 5})
    with pytest.raises(UserError, match=r"with lenpen None, but this run has 1; .* another --folder to start over"):
        kept.claim({"beam": 4, "lenpen": 1})
    assert [path.name for path in kept.folder.iterdir()] == ["manifest.json"]


def test_what_is_only_noted_may_change(kept):
    kept.claim({"beam": 4})
    Manifest(kept.folder, "numbers", "count", noted={"version": 3}).claim({"beam": 4})
    assert json.loads(kept.path.read_text())["version"] == 2


def test_a_folder_without_one_says_what_makes_it(kept):
    with pytest.raises(UserError, match=r"contains no numbers \(no manifest.json\); run count --folder OUT"):
        kept.read()


@pytest.mark.parametrize("text", ['{"beam":', "[]", ""])
def test_a_damaged_one_is_named(kept, text):
    kept.folder.mkdir()
    kept.path.write_text(text)
    with pytest.raises(UserError, match=r"manifest.json is damaged; delete it and rerun the same command"):
        kept.claim({"beam": 4})


def test_a_folder_that_cannot_be_written_is_named(kept, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    with pytest.raises(UserError, match=r"cannot write .*out/manifest.json: No space left on device; free some disk"):
        kept.claim({})
    assert list(kept.folder.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot create .*/file/out: Not a directory; choose a folder that can be wri"):
        Manifest(tmp_path / "file/out", "numbers", "count").claim({})


@pytest.mark.parametrize("theirs", [4, 5])
def test_without_hard_links_two_that_start_together_agree_or_one_is_refused(kept, monkeypatch, theirs):
    """Another worker claims the folder between this one's look whether the file exists and its renaming."""

    def refuse(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    replace = Path.replace

    def replace_late(self, target):
        monkeypatch.setattr(Path, "replace", replace)
        kept.claim({"beam": 4})
        return replace(self, target)

    monkeypatch.setattr(atomic.os, "link", refuse)
    monkeypatch.setattr(Path, "replace", replace_late)
    with nullcontext() if theirs == 4 else pytest.raises(UserError, match="was made with beam 4, but this run has 5"):
        kept.claim({"beam": theirs})
    assert kept.read() == {"beam": 4, "version": 2}
    assert [path.name for path in kept.folder.iterdir()] == ["manifest.json"]
