"""Record which files a step of scripts/prepare.sh has read, and check whether they have changed.

    python scripts/inputs.py note STEP_DIR FILE...
    python scripts/inputs.py check STEP_DIR FILE...

The first writes the size, modification time and SHA-256 of each file to STEP_DIR/inputs.json. The second prints the
first file that differs from this record and exits with 3. Files are identified by name, or by name and position if two
have the same name, so a folder may move. A missing file is not compared. Only files of another size or time are read.
"""

import hashlib
import json
import sys
from pathlib import Path

DIFFERENT = 3  # exit code; that of a traceback is 1


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keys(files: list[Path]) -> list[str]:
    """Return the name under which each file is recorded."""
    names = [path.name for path in files]
    return [name if names.count(name) == 1 else f"{name} {place}" for place, name in enumerate(names, 1)]


def changed(noted: dict[str, list], files: list[Path]) -> Path | None:
    """Return the first file that is new or whose content has changed since it was recorded, or None."""
    for key, path in zip(keys(files), files, strict=True):
        if not path.is_file():
            continue
        size, time, digest = noted.get(key, (None, None, None))
        status = path.stat()
        if [size, time] != [status.st_size, status.st_mtime_ns] and digest != checksum(path):
            return path
    return None


def main(arguments: list[str]) -> None:
    command, folder, *files = arguments
    noted, paths = Path(folder) / "inputs.json", [Path(file) for file in files]
    if command == "note":
        found = {
            key: [path.stat().st_size, path.stat().st_mtime_ns, checksum(path)]
            for key, path in zip(keys(paths), paths, strict=True)
            if path.is_file()
        }
        noted.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    elif noted.is_file() and (path := changed(json.loads(noted.read_text(encoding="utf-8")), paths)):
        print(path)
        sys.exit(DIFFERENT)


if __name__ == "__main__":
    main(sys.argv[1:])
