"""Find the dictionaries that a checkpoint was trained with."""

from pathlib import Path

from omegaconf import DictConfig


def find_dictionary(path: Path, configuration: DictConfig, name: str) -> Path | None:
    """Return the path of the dictionary `name`, next to the checkpoint at `path` or in its training data, or None.

    `name` is a file name such as `dict.en.txt`; `configuration` is that of the checkpoint.
    """
    folders = [path.parent]
    data = getattr(configuration.task, "data", None)
    if data:
        folders.append(Path(str(data).split(":")[0]))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
