"""Binarised data: opening it with errors that a user can read, cutting it into batches, and identifying it."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
from fairseq.data import Dictionary
from torch import Tensor

from nmt_kd.errors import UserError


@contextmanager
def opening_subset(data: str, subset: str, source_lang: str, target_lang: str) -> Iterator[None]:
    """Within the block fairseq opens a subset; UserError where it is not there, or its two sides do not match."""
    try:
        yield
    except FileNotFoundError:
        pair = f"{source_lang}-{target_lang}"
        raise UserError(f"{data} has no {subset}.{pair}; give a folder that fairseq-preprocess has written") from None
    except AssertionError as error:
        if "same number of examples" not in str(error):
            raise
        raise UserError(
            f"{subset}.{source_lang} and {subset}.{target_lang} in {data} have different numbers of sentences; "
            "binarise files again that have one line for each sentence"
        ) from None


def batches_by_tokens(
    sizes: numpy.ndarray, numbers: numpy.ndarray, max_tokens: int | None, max_sentences: int | None
) -> Iterator[numpy.ndarray]:
    """Cut `numbers`, longest first, into batches of at most `max_tokens` with padding and `max_sentences`."""
    start = 0
    while start < len(numbers):
        longest = max(1, int(sizes[numbers[start]]))
        room = max(1, max_tokens // longest) if max_tokens else len(numbers)
        end = start + min(room, max_sentences or room)
        yield numbers[start:end]
        start = end


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
