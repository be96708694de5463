"""Files and folders that appear under their names only when they are complete and on disk."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nmt_kd.errors import UserError

WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # errors of file systems without hard links
# endings of temporary names, followed by a random number, since process IDs are not unique across containers
PARTIAL = ".partial."
REPLACED = ".replaced."


@contextmanager
def atomic_file(path: Path, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing, which takes that name when the block ends without an error.

    After an error, `path` is as it was before. Temporary files left by killed processes are deleted, and if several
    processes write the same path at once, one of them wins. Raises FileExistsError if `path` exists and `overwrite` is
    False, and UserError if the system refuses to write.
    """
    partial = _partial(path)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            _rename(partial, path, overwrite)
        finally:
            if path.exists():
                _delete_leftovers(path)
    except FileExistsError:
        raise
    except OSError as error:
        raise UserError(_cannot_write(path, error)) from None
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, overwrite: bool = True) -> Iterator[Path]:
    """Make a temporary folder to write into, which becomes `folder` when the block ends without an error.

    It replaces what is there; if `overwrite` is False, a folder that another process has completed in the meantime
    stays. With `overwrite`, only one process may write the folder, and temporary folders left by killed ones are
    deleted. Raises UserError if the system refuses to write.
    """
    folder = folder.absolute()
    partial, replaced = _partial(folder), folder.with_name(f"{folder.name}{REPLACED}{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        if overwrite and folder.exists():
            folder.rename(replaced)
        try:
            partial.rename(folder)
        except OSError:
            if replaced.exists():
                replaced.rename(folder)
            if overwrite or not folder.is_dir():
                raise
        if overwrite:  # or else another process may still be writing
            _delete_leftovers(folder)
    except OSError as error:
        raise UserError(_cannot_write(folder, error)) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors within the block into a UserError that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(_cannot_write(path, error)) from None


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}{PARTIAL}{secrets.token_hex(4)}")


def _rename(partial: Path, path: Path, overwrite: bool) -> None:
    try:
        if overwrite:
            partial.replace(path)
        else:
            _link(partial, path)
    except FileNotFoundError:  # another process wrote `path` first, and deleted this one's file as a leftover
        if not path.exists():
            raise
        if not overwrite:
            raise FileExistsError(path) from None


def _link(partial: Path, path: Path) -> None:
    """Give the file another name; unlike a rename, this fails with FileExistsError if `path` exists."""
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # reserves the name with an empty file
        partial.replace(path)


def _delete_leftovers(path: Path) -> None:
    for left in path.parent.iterdir():
        if not left.name.startswith((path.name + PARTIAL, path.name + REPLACED)):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror or error}; free some disk space or choose another place, then rerun"
