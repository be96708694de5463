"""Files of JSON lines whose last line has a checksum of the lines before it."""

import hashlib
import json
import os
from pathlib import Path

END = '{"sentences"'  # how the last line starts
LONGEST_END = 1000  # bytes


def with_end(lines: list[str], **noted) -> list[bytes]:
    """Return the content of a file: `lines` with their line breaks, and a last line with their checksum and `noted`."""
    body = "".join(lines).encode()
    end = json.dumps({"sentences": len(lines), "sha256": hashlib.sha256(body).hexdigest(), **noted})
    return [body, f"{end}\n".encode()]


def checked_end(path: Path) -> dict | None:
    """Return the last line of a file if the checksum in it is correct, else None; raises FileNotFoundError."""
    body, _, last = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
    end = _parsed(last)
    return end if end and end.get("sha256") == hashlib.sha256(body + b"\n" if body else b"").hexdigest() else None


def end_of(path: Path) -> dict | None:
    """Return the parsed last line of a file, or None if it is not a JSON object; other lines are not checked.

    Raises FileNotFoundError.
    """
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - LONGEST_END))
        return _parsed(file.read().rstrip(b"\n").rpartition(b"\n")[2])


def _parsed(line: bytes) -> dict | None:
    try:
        end = json.loads(line)
    except ValueError:
        return None
    return end if isinstance(end, dict) else None
