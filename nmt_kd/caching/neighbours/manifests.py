"""What datastores and folders of neighbours were made with."""

from dataclasses import dataclass
from pathlib import Path

from fairseq.data import LanguagePairDataset
from fairseq.tasks import FairseqTask

from nmt_kd.caching.files import usual_block_sentences
from nmt_kd.caching.subsets import data_checksum, vocabularies
from nmt_kd.errors import UserError
from nmt_kd.storage.kinds import kind_of_folder
from nmt_kd.storage.manifest import Manifest
from nmt_kd.version import __version__


@dataclass(frozen=True)
class Kind:
    """A kind of folder whose content depends on a base model."""

    content: str  # such as "a datastore ...", for messages
    command: str  # that writes it
    arguments: str
    format: int

    def manifest(self, folder: Path) -> Manifest:
        """Return the manifest of a folder, or of a subset in it; another version of this package may resume it."""
        return Manifest(
            folder,
            self.content.removeprefix("a ").removeprefix("folder of "),
            f"{self.command} {self.arguments}",
            noted={"nmt_kd": __version__},
        )

    def settings(self, task: FairseqTask, base: str, **others) -> dict:
        """Return the settings of a folder made with `task` and the model whose fingerprint is `base`."""
        return {"format": self.format, "model": base, **vocabularies(task), **others}

    def read(self, folder: Path, task: FairseqTask, base: str, base_path: str) -> dict:
        """Return the settings of a folder; `base` is the fingerprint of the model at `base_path`.

        Raises UserError if it is another kind of folder, or was made with another model or other dictionaries.
        """
        if (kind := kind_of_folder(folder)) not in (self.content, None):
            raise UserError(f"{folder} is {kind}, not {self.content}; give a folder that {self.command} writes")
        settings = self.manifest(folder).read()
        if settings.get("format") != self.format:
            raise UserError(
                f"{folder} is {self.content} in format {settings.get('format')}, but this version of nmt-kd reads "
                f"format {self.format}; make it again with {self.command}"
            )
        if settings["model"] != base:
            raise UserError(
                f"{folder} was made with another model ({settings['model']}) than {base_path} ({base}); give the "
                "checkpoint that it was made with"
            )
        for name, value in vocabularies(task).items():
            if settings[name] != value:
                raise UserError(
                    f"{folder} was made with {name} {settings[name]!r}, but {task.cfg.data} has {value!r}; give data "
                    f"with the same dictionaries, or make another folder with {self.command}"
                )
        return settings


def settings_of_data(dataset: LanguagePairDataset, block_sentences: int | None) -> dict:
    """Return the settings that identify a data set and its division into blocks."""
    sentences = len(dataset)
    return {
        "sentences": sentences,
        "block_sentences": block_sentences or usual_block_sentences(sentences),
        "data": data_checksum(dataset),
    }


def check_data(folder: Path, settings: dict, task: FairseqTask, subset: str) -> None:
    """Raise UserError unless the `subset` of `task`, which is open, is the data of a folder with these settings."""
    if (checksum := data_checksum(task.dataset(subset))) != settings["data"]:
        raise UserError(
            f"{folder} was made from another {subset} (checksum {settings['data']}) than that of {task.cfg.data} "
            f"({checksum}); give the data that it was made from"
        )
