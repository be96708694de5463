"""The target words that each source word can have, from a word-aligned corpus; CTranslate2 then considers no others.

CTranslate2 reads the list from `vmap.txt` beside a model: a source symbol, a tab, and target symbols, separated by
spaces. The line with an empty source symbol lists those that every sentence can have.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from fairseq.tasks.translation import TranslationTask

from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)

# Firefox has 100 of each for words of 32,000. With subwords, 4,000 of them, these lose less: see docs/export.md.
FOR_EACH = 200  # target symbols of a source symbol, the most frequent first
FOR_ALL = 800  # target symbols of every sentence, the most frequent of the corpus


def shortlist(task: TranslationTask, corpus: str) -> str:
    """Return the contents of vmap.txt for the training split of the binarised `corpus`, aligned by eflomal.

    Raises UserError if eflomal is not installed or the corpus cannot be read with the task's dictionaries.
    """
    try:
        import eflomal
    except ImportError:
        raise UserError("--shortlist needs eflomal; pip install 'nmt-kd[shortlist]' (a C compiler is needed)") from None
    with TemporaryDirectory() as name:
        source, target, forward, reverse = (Path(name) / part for part in ("source", "target", "forward", "reverse"))
        _write_text(task, corpus, source, target)
        logger.info(f"aligning the words of {corpus}")
        with source.open(encoding="utf-8") as sources, target.open(encoding="utf-8") as targets:
            eflomal.Aligner().align(
                sources, targets, links_filename_fwd=str(forward), links_filename_rev=str(reverse), quiet=True
            )
        return from_alignments(_lines(source), _lines(target), _lines(forward), _lines(reverse))


def from_alignments(
    sources: Iterable[str], targets: Iterable[str], forward: Iterable[str], reverse: Iterable[str]
) -> str:
    """Return the contents of vmap.txt for aligned sentences; links are pairs of positions such as `0-0 1-2`."""
    frequencies, links = Counter[str](), defaultdict[str, Counter[str]](Counter)
    for source, target, *alignments in zip(sources, targets, forward, reverse, strict=True):
        source_symbols, target_symbols = source.split(), target.split()
        frequencies.update(target_symbols)
        for link in " ".join(alignments).split():
            position, _, other = link.partition("-")
            links[source_symbols[int(position)]][target_symbols[int(other)]] += 1
    listed = {"": frequencies.most_common(FOR_ALL)}
    listed |= {symbol: links[symbol].most_common(FOR_EACH) for symbol in sorted(links)}
    return "".join(f"{symbol}\t{' '.join(word for word, _ in found)}\n" for symbol, found in listed.items())


def _write_text(task: TranslationTask, corpus: str, source: Path, target: Path) -> None:
    """Write the pairs of a binarised corpus in symbols, one a line."""
    kept, task.cfg.data = task.cfg.data, corpus
    try:
        task.load_dataset("train")
    finally:
        task.cfg.data = kept
    _check_dictionaries(task, corpus)
    dataset = task.datasets.pop("train")
    with source.open("w", encoding="utf-8") as sources, target.open("w", encoding="utf-8") as targets:
        for number in range(len(dataset)):
            pair = dataset[number]
            for file, dictionary, side in (
                (sources, task.source_dictionary, "source"),
                (targets, task.target_dictionary, "target"),
            ):
                file.write(" ".join(dictionary.symbols[token] for token in pair[side].tolist()[:-1]) + "\n")


def _check_dictionaries(task: TranslationTask, corpus: str) -> None:
    for language, dictionary in (
        (task.cfg.source_lang, task.source_dictionary),
        (task.cfg.target_lang, task.target_dictionary),
    ):
        path = Path(corpus) / f"dict.{language}.txt"
        if not path.is_file():
            raise UserError(f"{path} does not exist; give --shortlist a folder that fairseq-preprocess has written")
        if task.load_dictionary(str(path)).symbols != dictionary.symbols:
            raise UserError(
                f"{path} is not the student's dictionary; give --shortlist a folder that was binarised with the "
                "student's dictionaries"
            )


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file
