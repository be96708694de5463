"""Folders that long work fills piece by piece: what the pieces were made with, and writing that survives a crash."""

import json
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_REPORTS = 10


def write_durably(path: Path, parts: list[bytes]) -> None:
    """Write a file and wait until it is on disk."""
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class Manifest:
    """The settings that everything in a folder was made with, in its manifest.json."""

    folder: Path
    content: str  # what the folder holds, for messages
    command: str  # what makes it
    flag: str = "folder"  # what another folder would be given with
    noted: dict = field(default_factory=dict)  # kept with the settings, but not compared

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / "manifest.json"

    def claim(self, settings: dict) -> None:
        """Note the settings; UserError where something is there that was made with others."""
        own = self.folder / f"manifest.json.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                write_durably(own, [(json.dumps({**settings, **self.noted}, indent=1) + "\n").encode()])
                os.link(own, self.path)  # fails where another worker or run was here before
            except FileExistsError:
                self.compare(settings, f"give the same settings to go on, or another {self.flag} to begin anew")
            finally:
                own.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write into {self.folder}: {error.strerror}; give a folder that can be written"
            ) from None

    def compare(self, settings: dict, what_to_do: str) -> None:
        """UserError where one of `settings`, or one that they lack, is not what the folder was made with."""
        earlier = self.read()
        for name in dict.fromkeys([*earlier, *settings]):
            if name not in self.noted and earlier.get(name) != settings.get(name):
                raise UserError(
                    f"{self.folder} was made with {name} {earlier.get(name)!r}, this run has {settings.get(name)!r}; "
                    f"{what_to_do}"
                )

    def read(self) -> dict:
        """The settings; UserError where there are none."""
        try:
            settings = json.loads(self.path.read_text(encoding="utf-8"))
            if not isinstance(settings, dict):
                raise ValueError("no settings")
            return settings
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.folder} holds no {self.content} (no manifest.json); make them with {self.command}"
            ) from None
        except ValueError:
            raise UserError(f"{self.path} is damaged; delete it and run the same command again to restore it") from None


class SentenceReport:
    """Sentences a second and the time left, in the log every few seconds."""

    def __init__(self, sentences: int, name: str = ""):
        self.sentences, self.done = sentences, 0
        self.prefix = f"{name}: " if name else ""
        self.started = self.reported = time.monotonic()

    def add(self, sentences: int) -> None:
        """Count sentences that are done, and say so now and then."""
        self.done += sentences
        now = time.monotonic()
        if now - self.reported >= SECONDS_BETWEEN_REPORTS or self.done == self.sentences:
            self.reported = now
            speed = self.done / max(now - self.started, 1e-6)
            logger.info(
                f"{self.prefix}{self.done:,} of {self.sentences:,} sentences, {speed:,.1f} sentences/s, "
                f"{(self.sentences - self.done) / speed / 60:,.1f} min left"
            )
