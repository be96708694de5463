import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from nmt_kd.errors import UserError
from nmt_kd.storage import atomic
from nmt_kd.storage.atomic import atomic_file, atomic_folder, delete_leftovers


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        atomic.os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_size, names(tmp_path)))
    )
    with atomic_file(tmp_path / "a") as file:
        file.write(b"one")
        file.write(b"two")
    ((size, during),) = synced
    assert size == 6
    assert [name[:10] for name in during] == ["a.partial."]
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"onetwo"


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_bytes(b"earlier")

    def fail():
        with atomic_file(tmp_path / "a") as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"earlier"


def test_a_full_disk_is_a_user_error(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with (
        pytest.raises(UserError, match=r"^cannot write .*/a: No space left on device; free some"),
        atomic_file(tmp_path / "a"),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"^cannot write .*/b: No space left on device; free some"),
        atomic_folder(tmp_path / "b") as folder,
    ):
        (folder / "file").touch()
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_a_user_error(tmp_path):
    with (
        pytest.raises(UserError, match=r"^cannot write .*/none/a: No such file or directory"),
        atomic_file(tmp_path / "none/a"),
    ):
        pass


def test_leftovers_of_killed_writers_are_deleted_and_those_of_other_files_are_not(tmp_path):
    for name in ("a.partial.1", "ab.partial.1"):
        (tmp_path / name).touch()
    with atomic_file(tmp_path / "a", clean=False):
        pass
    assert names(tmp_path) == ["a", "a.partial.1", "ab.partial.1"]
    with atomic_file(tmp_path / "a"):
        pass
    assert names(tmp_path) == ["a", "ab.partial.1"]


def test_the_leftovers_of_all_files_of_a_folder_are_deleted_but_no_folders(tmp_path):
    for name in ("a.partial.1", "b.partial.2", "c"):
        (tmp_path / name).touch()
    (tmp_path / "d.partial.1").mkdir()
    delete_leftovers(tmp_path)
    assert names(tmp_path) == ["c", "d.partial.1"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_writer_whose_file_was_deleted_on_another_machine_has_lost(tmp_path, overwrite):
    def write():
        with atomic_file(tmp_path / "a", overwrite) as file:
            file.write(b"slow")
            (tmp_path / "a").write_bytes(b"fast")
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))  # as NFS does

    with nullcontext() if overwrite else pytest.raises(FileExistsError):
        write()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"fast"


def test_two_writers_of_one_file_both_succeed(tmp_path):
    with atomic_file(tmp_path / "a") as slow:
        slow.write(b"slow")
        with atomic_file(tmp_path / "a") as fast:
            fast.write(b"fast")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"fast"


def test_an_error_about_another_file_is_not_blamed_on_the_one_that_is_written(tmp_path):
    for writer in (atomic_file, atomic_folder):
        with pytest.raises(FileNotFoundError, match="absent"), writer(tmp_path / "a"):
            (tmp_path / "absent").read_bytes()
    assert names(tmp_path) == []


def test_without_overwriting_only_the_first_writer_succeeds(tmp_path):
    def write(content, meanwhile=lambda: None):
        with atomic_file(tmp_path / "a", overwrite=False) as file:
            file.write(content)
            meanwhile()

    with pytest.raises(FileExistsError):
        write(b"slow", meanwhile=lambda: write(b"fast"))
    with pytest.raises(FileExistsError):
        write(b"late", meanwhile=(tmp_path / "a.partial.1").touch)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"fast"


def test_a_folder_replaces_the_earlier_one_as_a_whole(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/old").touch()
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "deep").mkdir()
        (folder / "deep/new").touch()
        assert names(tmp_path / "a") == ["old"]
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a/deep") == ["new"]


def test_a_folder_behind_a_symbolic_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "scratch/a").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/a").symlink_to(tmp_path / "scratch/a")
    with atomic_folder(tmp_path / "home/a") as folder:
        (folder / "new").touch()
    assert (tmp_path / "home/a").is_symlink()
    assert names(tmp_path / "scratch/a") == ["new"]
    assert [names(tmp_path / place) for place in ("home", "scratch")] == [["a"], ["a"]]


def test_folders_left_by_killed_writers_are_deleted_unless_others_may_be_writing(tmp_path):
    (tmp_path / "a.partial.0123").mkdir()
    (tmp_path / "a.partial.0123" / "file").touch()
    (tmp_path / "a.replaced.0123").mkdir()
    (tmp_path / "b.partial.0123").mkdir()
    with atomic_folder(tmp_path / "a"), atomic_folder(tmp_path / "b", overwrite=False):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "b.partial.0123"]


def test_a_folder_that_fails_leaves_the_earlier_one(tmp_path):
    (tmp_path / "a").mkdir()

    def fail():
        with atomic_folder(tmp_path / "a") as folder:
            (folder / "new").touch()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == []


def test_a_folder_that_cannot_take_the_name_leaves_the_earlier_one(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/old").touch()
    rename = Path.rename

    def refused(self, target):
        if ".partial." in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(UserError, match=r"cannot write .*/a: Input/output error"), atomic_folder(tmp_path / "a"):
        pass
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["old"]


def test_without_overwriting_the_first_folder_stays(tmp_path):
    with atomic_folder(tmp_path / "a", overwrite=False) as slow, atomic_folder(tmp_path / "a", overwrite=False) as fast:
        (slow / "slow").touch()
        (fast / "fast").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["fast"]


@pytest.mark.parametrize("reason", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_is_claimed_once_without_hard_links(tmp_path, monkeypatch, reason):
    def link(source, target):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(atomic.os, "link", link)
    with atomic_file(tmp_path / "a", overwrite=False) as file:
        file.write(b"first")
    with pytest.raises(FileExistsError), atomic_file(tmp_path / "a", overwrite=False) as file:
        file.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_written_is_named_as_the_user_names_it():
    with pytest.raises(UserError, match=r"^cannot write decoded: Permission denied"), atomic.writing(Path("decoded")):
        raise PermissionError(errno.EACCES, "Permission denied", str(Path("decoded/tmp123").absolute()))
