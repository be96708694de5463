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
def atomic_file(path: Path, overwrite: bool = True, clean: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing, and rename it to `path` when the block ends without an error.

    After an error, `path` is as it was before. If several processes write the same path at once, one of them wins. With
    `clean`, temporary files of `path` that killed processes have left are deleted. Raises FileExistsError if `path`
    exists and `overwrite` is False, and UserError if the system refuses to write.
    """
    partial = _partial(path)
    try:
        with writing(path):
            try:
                with open(partial, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                if overwrite:
                    partial.replace(path)
                else:
                    _link(partial, path)
            except OSError as error:
                # another process wrote `path` first, and deleted this one's file as a leftover
                has_lost = error.errno in (errno.ENOENT, errno.ESTALE) and error.filename in (None, str(partial))
                if not has_lost or not path.exists():
                    raise
                if not overwrite:
                    raise FileExistsError(path) from None
    finally:
        partial.unlink(missing_ok=True)
        if clean and path.exists():
            delete_leftovers(path.parent, path.name)


def delete_leftovers(folder: Path, name: str | None = None) -> None:
    """Delete the temporary files in `folder`, those of the file `name` or of all files, which must be complete."""
    for path in folder.iterdir():
        written, marker, _ = path.name.rpartition(PARTIAL)
        if marker and name in (None, written) and not path.is_dir():
            path.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, overwrite: bool = True) -> Iterator[Path]:
    """Make a temporary folder to write into, which becomes `folder` when the block ends without an error.

    It replaces what is there; if `overwrite` is False, a folder that another process has completed in the meantime
    stays. With `overwrite`, only one process may write the folder, and temporary folders left by killed ones are
    deleted. Raises UserError if the system refuses to write.
    """
    folder = folder.resolve()  # or a symbolic link would be replaced, and not the folder it leads to
    partial, replaced = _partial(folder), folder.with_name(f"{folder.name}{REPLACED}{secrets.token_hex(4)}")
    try:
        with writing(folder):
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
                _delete_left_folders(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the system within the block into a UserError that `path` cannot be written.

    FileExistsError and errors that name another file, which the block may read, are raised unchanged.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.filename is not None and not _belongs_to(Path(error.filename), path):
            raise
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some disk space or choose another place, then rerun"
        ) from None


def _belongs_to(file: Path, path: Path) -> bool:
    """Return whether a file is `path`, in it, a folder that it is in, or one of their temporary files."""
    file, path = file.absolute(), path.absolute()
    begins = (f"{path}/", f"{path}{PARTIAL}", f"{path}{REPLACED}")
    return file in (path, *path.parents) or str(file).startswith(begins)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}{PARTIAL}{secrets.token_hex(4)}")


def _link(partial: Path, path: Path) -> None:
    """Give the file the name `path`; raises FileExistsError if `path` exists.

    On file systems without hard links, of several processes that get here at the same moment, the last one wins.
    """
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        if path.exists():
            raise FileExistsError(path) from None
        partial.replace(path)


def _delete_left_folders(folder: Path) -> None:
    for left in folder.parent.iterdir():
        if left.is_dir() and left.name.startswith((folder.name + PARTIAL, folder.name + REPLACED)):
            shutil.rmtree(left, ignore_errors=True)
