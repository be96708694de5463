"""The version, in a module that imports nothing, so that building the package needs neither fairseq nor torch."""

__version__ = "0.1.0"
