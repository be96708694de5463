"""The settings that everything in a folder was made with."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nmt_kd.errors import UserError
from nmt_kd.storage.atomic import atomic_file


@dataclass(frozen=True)
class Manifest:
    """A folder's manifest.json, which keeps later runs from mixing results of different settings in it."""

    folder: Path
    content: str  # what the folder contains, for messages
    command: str  # the command that fills it
    flag: str = "folder"  # how another folder is chosen
    noted: dict = field(default_factory=dict)  # stored with the settings, but not compared

    @property
    def path(self) -> Path:
        """The manifest's file."""
        return self.folder / "manifest.json"

    def claim(self, settings: dict) -> None:
        """Store the settings, or raise UserError if the folder was made with others."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot create {self.folder}: {error.strerror}; choose a folder that can be written"
            ) from None
        # FileExistsError: an earlier run or another worker has claimed it
        with suppress(FileExistsError), atomic_file(self.path, overwrite=False) as file:
            file.write((json.dumps({**settings, **self.noted}, indent=1) + "\n").encode())
        # even after writing, since without hard links another worker may have replaced the file
        self.compare(settings, f"use the same settings to resume, or another {self.flag} to start over")

    def compare(self, settings: dict, what_to_do: str) -> None:
        """Raise UserError unless the folder was made with exactly these `settings`; `noted` ones may differ."""
        earlier = self.read()
        for name in dict.fromkeys([*earlier, *settings]):
            if name not in self.noted and earlier.get(name) != settings.get(name):
                raise UserError(
                    f"{self.folder} was made with {name} {earlier.get(name)!r}, but this run has "
                    f"{settings.get(name)!r}; {what_to_do}"
                )

    def read(self) -> dict:
        """Return the settings; raises UserError if there are none."""
        try:
            settings = json.loads(self.path.read_text(encoding="utf-8"))
            if not isinstance(settings, dict):
                raise ValueError("no settings")
            return settings
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.folder} contains no {self.content} (no manifest.json); run {self.command} first"
            ) from None
        except ValueError:
            raise UserError(f"{self.path} is damaged; delete it and rerun the same command to restore it") from None
