"""A place for converted models."""

import pytest


@pytest.fixture(autouse=True)
def converted(tmp_path_factory, monkeypatch):
    """The folder that converted models are kept in."""
    folder = tmp_path_factory.getbasetemp() / "converted"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "nmt-kd/ctranslate2"
