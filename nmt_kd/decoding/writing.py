"""Write a corpus as text, and binarise it for training."""

import re
import shutil
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy
from fairseq import options
from fairseq.data import Dictionary
from fairseq_cli import preprocess

from nmt_kd.data import pairs_of_data
from nmt_kd.decoding.corpus import Candidate, Report
from nmt_kd.decoding.filters import Filters
from nmt_kd.errors import UserError
from nmt_kd.storage.atomic import atomic_file

OWN_FILES = re.compile(r"text|(preprocess\.log|record\.json)|(dict|train|valid|test)\d*\..*")


class CorpusFiles:
    """train.SOURCE and train.TARGET, to which pairs are written and counted."""

    def __init__(self, files: tuple[BinaryIO, BinaryIO], dictionaries: dict[str, Dictionary], report: Report):
        """`dictionaries` are those of source and target language; `report` counts what is written."""
        self.files, self.dictionaries, self.report = files, dictionaries, report

    def write(self, label: str, source: str, target: str) -> None:
        """Write a pair."""
        self.report.pairs[label] += 1
        sides = zip(self.files, (source, target), self.dictionaries.items(), strict=True)
        for file, text, (language, dictionary) in sides:
            file.write(f"{text}\n".encode())
            unknown = sum(dictionary.index(symbol) == dictionary.unk() for symbol in text.split())
            if unknown:
                self.report.unknown[language] += unknown


def write_corpus(
    candidates: Iterator[Candidate], out: Path, dictionaries: dict[str, Dictionary], filters: Filters, report: Report
) -> int:
    """Write train.SOURCE and train.TARGET into `out`, whole or not at all, and return the number of pairs.

    `dictionaries` are those of the source and of the target language. Raises UserError if no pair is left.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        paths = [out / f"train.{language}" for language in dictionaries]
        sources, targets = (files.enter_context(atomic_file(path)) for path in paths)
        corpus = CorpusFiles((sources, targets), dictionaries, report)
        kept = _thinned(candidates, out, filters, report) if filters.worst or filters.duplicates else candidates
        for candidate in kept:
            corpus.write(*candidate[:3])
        count = sum(report.pairs.values())
        if not count:
            reasons = ", ".join(f"{reason}: {number:,}" for reason, number in report.dropped.items() if number)
            raise UserError(
                f"no pair is left for the corpus ({reasons or 'no sentences'}); decode other text or use less strict "
                "filters"
            )
    return count


def _thinned(candidates: Iterator[Candidate], out: Path, filters: Filters, report: Report) -> Iterator[Candidate]:
    """Yield the candidates that are neither among the worst nor repeated.

    The text is kept on disk. In memory, each pair takes 14 bytes, and 24 more while duplicates are sorted.
    """
    labels: dict[str, int] = {}
    numbers, scores, hashes = array("H"), array("f"), array("Q")
    with tempfile.TemporaryFile(dir=out) as waiting:
        for label, source, target, score in candidates:
            line = f"{source}\t{target}\n".encode()
            waiting.write(line)
            numbers.append(labels.setdefault(label, len(labels)))
            scores.append(score)
            if filters.duplicates:
                hashes.append(int.from_bytes(blake2b(line, digest_size=8).digest()))
        keep = ~worst(numpy.frombuffer(scores, numpy.float32) if scores else numpy.zeros(0), filters)
        report.dropped["worst for the reverse model"] += int((~keep).sum())
        if filters.duplicates and len(keep):
            (left,) = keep.nonzero()
            _, first = numpy.unique(numpy.frombuffer(hashes, numpy.uint64)[left], return_index=True)
            keep[:] = False
            keep[left[first]] = True
            report.dropped["duplicate"] += len(left) - len(first)
        names = list(labels)
        waiting.seek(0)
        for line, number, is_kept in zip(waiting, numbers, keep, strict=True):
            if is_kept:
                source, _, target = line.decode().rstrip("\n").partition("\t")
                yield Candidate(names[number], source, target)


def worst(scores: numpy.ndarray, filters: Filters) -> numpy.ndarray:
    """Return a mask of the pairs with the lowest scores; among equal ones, the later pairs. NaN scores are ignored."""
    lowest = numpy.zeros(len(scores), dtype=bool)
    (scored,) = (~numpy.isnan(scores)).nonzero()
    count = int(filters.worst * len(scored))
    if count:
        limit = numpy.partition(scores[scored], count - 1)[count - 1]
        lowest[scored] = scores[scored] < limit
        (equal,) = (scores == limit).nonzero()
        lowest[equal[len(equal) - (count - int(lowest.sum())) :]] = True
    return lowest


def check_output(output: Path) -> None:
    """Raise UserError if `output` is the working folder, or contains anything but an earlier corpus to replace."""
    if output.resolve() == Path.cwd():
        raise UserError(f"--output {output} is the working folder; name a folder inside it")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    is_corpus = output.is_dir() and (output / "text").is_dir()
    if not is_corpus or not all(OWN_FILES.fullmatch(path.name) for path in output.iterdir()):
        raise UserError(f"{output} exists and is not a corpus written by nmt-kd assemble; choose another --output")


def binarise(text: Path, data: Path, out: Path, source_lang: str, target_lang: str, workers: int = 1) -> None:
    """Binarise train.* of `text` into `out` with the dictionaries of `data`, and copy its valid and test sets."""
    out.mkdir(parents=True, exist_ok=True)
    arguments = ["--source-lang", source_lang, "--target-lang", target_lang, "--trainpref", str(text / "train")]
    arguments += [
        "--srcdict",
        str(data / f"dict.{source_lang}.txt"),
        "--tgtdict",
        str(data / f"dict.{target_lang}.txt"),
    ]
    arguments += ["--destdir", str(out), "--workers", str(workers)]
    preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    for split in ("valid", "test"):
        for pair in pairs_of_data(source_lang, target_lang):
            for file in data.glob(f"{split}*.{pair}.*"):
                shutil.copy2(file, out / file.name)
