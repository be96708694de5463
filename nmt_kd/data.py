"""Open binarised data with readable errors, divide it into batches, and compute checksums of it."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.errors import UserError

TRAINING_SUBSET = "train"  # by default
FROM_PREPROCESS = "give a folder that fairseq-preprocess wrote"


def load_subset(task: FairseqTask, subset: str) -> None:
    """Load a subset of a task's data as fairseq-train does, which joins train, train1 and so on."""
    task.load_dataset(subset, combine=subset == TRAINING_SUBSET)


@contextmanager
def opening_data(data: str, source_lang: str | None, target_lang: str | None) -> Iterator[None]:
    """Turn fairseq's errors within the block into a UserError if `data` lacks its folder, dictionaries or languages.

    `data` is one folder, or several separated by ":"; a language is None if its name is to be found in the data.
    """
    try:
        yield
    except UserError:
        raise
    except Exception:
        reason = _why_not_data(utils.split_paths(data)[0], source_lang, target_lang)
        if reason is None:
            raise
        raise UserError(reason) from None


def check_one_folder(data: str, command: str) -> None:
    """Raise UserError if `data` names several folders; `command` is the one that takes only one."""
    if len(utils.split_paths(data)) > 1:
        raise UserError(f"{data} names several folders, but {command} takes one; choose the one to train on")


def _why_not_data(folder: str, *languages: str | None) -> str | None:
    path = Path(folder)
    if not path.is_dir():
        return f"data folder {folder} {'is a file' if path.exists() else 'does not exist'}; {FROM_PREPROCESS}"
    known = sorted(file.name.removeprefix("dict.").removesuffix(".txt") for file in path.glob("dict.*.txt"))
    if not known:
        return f"{folder} has no dict.*.txt; {FROM_PREPROCESS}"
    if unknown := [language for language in languages if language is not None and language not in known]:
        return (
            f"{folder} has no dict.{unknown[0]}.txt; its languages are "
            f"{' and '.join(known)}; choose from them with --source-lang and --target-lang"
        )
    if None in languages and not any(_subsets(path)):
        return f"{folder} has dictionaries but no binarised text, such as train.en-de.en.idx; {FROM_PREPROCESS}"
    return None


def pairs_of_data(source_lang: str, target_lang: str) -> tuple[str, str]:
    """Return the two names of a language pair under which fairseq finds the data of this direction."""
    return f"{source_lang}-{target_lang}", f"{target_lang}-{source_lang}"


def _subsets(folder: Path) -> list[tuple[str, str]]:
    """Return the subsets of a folder, each with its pair of languages: ("train", "en-de"), ..."""
    parts = (file.name.split(".") for file in folder.glob("*.*-*.*.*"))
    return sorted({(subset, pair) for subset, pair, *_ in parts if pair.count("-") == 1})


@contextmanager
def opening_subset(data: str, subset: str, source_lang: str, target_lang: str) -> Iterator[None]:
    """Turn fairseq's errors within the block into a UserError if a subset is missing, or its two sides differ.

    `data` is the folder of the subset.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(_why_no_subset(data, subset, source_lang, target_lang)) from None
    except AssertionError as error:
        if "same number of examples" not in str(error):
            raise
        raise UserError(
            f"{subset}.{source_lang} and {subset}.{target_lang} in {data} have different numbers of sentences; "
            "binarise files with the same number of lines"
        ) from None


def _why_no_subset(data: str, subset: str, source_lang: str, target_lang: str) -> str:
    found = _subsets(Path(data))
    pairs = pairs_of_data(source_lang, target_lang)
    missing = f"{data} has no {subset}.{source_lang}-{target_lang}"
    if names := [name for name, pair in found if pair in pairs]:
        return (
            f"{missing}; it has {', '.join(names)}: choose with --gen-subset, --valid-subset or --train-subset, or "
            f"binarise {subset} too"
        )
    if found:
        there = " and ".join(sorted({pair for _, pair in found}))
        return f"{missing}; its text is {there}: give its languages as --source-lang and --target-lang"
    return f"{missing} and no other binarised text; {FROM_PREPROCESS}"


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
