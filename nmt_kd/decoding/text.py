"""Sentences and dictionaries as text and as checksums."""

import zlib

import numpy
from fairseq.data import Dictionary
from torch import Tensor


def subwords(dictionary: Dictionary, tokens: Tensor) -> str:
    """The symbols of `tokens` [length] with a space between each, without the end of the sentence and padding."""
    ends = (dictionary.eos(), dictionary.pad(), dictionary.bos())
    return " ".join(dictionary.symbols[token] for token in tokens.tolist() if token not in ends)


def source_checksum(tokens: Tensor) -> str:
    """A checksum of a sentence's token numbers, to prove later that line and translation belong together."""
    return f"{zlib.crc32(numpy.ascontiguousarray(tokens.cpu().numpy(), dtype='<i8').tobytes()):08x}"


def dictionary_checksum(dictionary: Dictionary) -> str:
    """A checksum of a dictionary's symbols in their order."""
    return f"{zlib.crc32(chr(10).join(dictionary.symbols).encode()):08x}"
