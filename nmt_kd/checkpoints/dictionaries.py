"""Where the dictionaries of a checkpoint are."""

from pathlib import Path

from omegaconf import DictConfig


def find_dictionary(path: Path, configuration: DictConfig, name: str) -> Path | None:
    folders = [path.parent]
    data = getattr(configuration.task, "data", None)
    if data:
        folders.append(Path(str(data).split(":")[0]))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
