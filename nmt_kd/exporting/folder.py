"""A folder that appears under its name whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmt_kd.errors import UserError


@contextmanager
def whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the name `folder`, and the place of what is there, once all went well.

    Raises UserError where the system refuses to write.
    """
    partial, replaced = (folder.with_name(f"{folder.name}.{what}.{os.getpid()}") for what in ("partial", "replaced"))
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
