"""Opening binarised data, with errors that a user can read."""

from collections.abc import Iterator
from contextlib import contextmanager

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
