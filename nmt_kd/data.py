"""Open binarised data with readable errors, divide it into batches, and compute checksums of it."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
from fairseq.data import Dictionary
from torch import Tensor

from nmt_kd.errors import UserError


@contextmanager
def opening_subset(data: str, subset: str, source_lang: str, target_lang: str) -> Iterator[None]:
    """Turn fairseq's errors within the block into a UserError if a subset is missing, or its two sides differ."""
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
            "binarise files with the same number of lines"
        ) from None


def batches_by_tokens(
    sizes: numpy.ndarray, numbers: numpy.ndarray, max_tokens: int | None, max_sentences: int | None
) -> Iterator[numpy.ndarray]:
    """Yield sentence `numbers` in batches of at most `max_sentences`, and of `max_tokens` including padding.

    `sizes` are the lengths of all sentences; `numbers` are sorted by length, longest first. A sentence longer than
    `max_tokens` is a batch by itself.
    """
    start = 0
    while start < len(numbers):
        longest = max(1, int(sizes[numbers[start]]))
        room = max(1, max_tokens // longest) if max_tokens else len(numbers)
        end = start + min(room, max_sentences or room)
        yield numbers[start:end]
        start = end


def subwords(dictionary: Dictionary, tokens: Tensor) -> str:
    """Return the symbols of `tokens` [length], joined by spaces, without end-of-sentence and padding symbols."""
    ends = (dictionary.eos(), dictionary.pad(), dictionary.bos())
    return " ".join(dictionary.symbols[token] for token in tokens.tolist() if token not in ends)


def source_checksum(tokens: Tensor) -> str:
    """Return a checksum of a sentence's tokens, which later shows that source and translation belong together."""
    return f"{zlib.crc32(numpy.ascontiguousarray(tokens.cpu().numpy(), dtype='<i8').tobytes()):08x}"


def dictionary_checksum(dictionary: Dictionary) -> str:
    """Return a checksum of a dictionary's symbols in their order."""
    return f"{zlib.crc32(chr(10).join(dictionary.symbols).encode()):08x}"
