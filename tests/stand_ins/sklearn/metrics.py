"""Has every name that is imported from it."""


def __getattr__(name: str) -> None:
    if name.startswith("__"):
        raise AttributeError(name)
