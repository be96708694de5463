"""Decoding text files with any teacher, into a folder in text form."""

import logging
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

from nmt_kd.decoding.noise import Noise
from nmt_kd.decoding.settings import pair_name
from nmt_kd.decoding.shards import Decoded
from nmt_kd.decoding.text_files import Line, Record, TextFiles, is_blank
from nmt_kd.decoding.text_form import FORM, text_folder, text_record
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1, check_options
from nmt_kd.progress import Progress
from nmt_kd.storage.blocks import fill
from nmt_kd.translators.opening import open_translator
from nmt_kd.translators.translator import TeacherOptions, Translator

logger = logging.getLogger(__name__)

ON_EMPTY = ("error", "skip")
ON_TOO_LONG = ("error", "skip", "truncate")


@dataclass
class SourceRules:
    """How empty lines, and lines longer than the teacher can read, are handled."""

    length: Callable[[str], int]  # of a text, in the teacher's tokens
    longest: int  # tokens
    empty: str = "error"
    too_long: str = "error"
    empty_lines: int = 0  # in all files, as are the following
    long_lines: int = 0

    def check(self, line: Line) -> None:
        """Count a line that is empty or too long; raises UserError if that is an error."""
        text = line.text.strip()
        if is_blank(text):
            self._found(line, "empty", self.empty, "--empty-lines skip")
            self.empty_lines += 1
        elif most_tokens(text) > self.longest and self.length(text) > self.longest:
            what = f"longer than the {self.longest:,} tokens that the teacher reads"
            self._found(line, what, self.too_long, "--too-long skip or truncate")
            self.long_lines += 1

    def _found(self, line: Line, what: str, action: str, what_to_do: str) -> None:
        if action == "error":
            raise line.error(f"{what}; correct it, or choose what to do with {what_to_do}")

    def readable(self, text: str) -> str | None:
        """Return the part of a source that the teacher translates, or None if the source is skipped."""
        if is_blank(text):
            return None
        if self.length(text) <= self.longest:
            return text
        if self.too_long != "truncate":
            return None
        fits, too_many = 0, len(text)  # characters
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.length(text[:middle]) <= self.longest:
                fits = middle
            else:
                too_many = middle
        return None if is_blank(text[:fits]) else text[:fits].strip()

    def log_counts(self) -> None:
        """Log how many lines are skipped or cut."""
        if self.empty_lines:
            logger.warning(f"empty lines, skipped: {self.empty_lines:,}")
        if self.long_lines:
            what = "cut" if self.too_long == "truncate" else "skipped"
            logger.warning(f"lines longer than {self.longest:,} tokens, {what}: {self.long_lines:,}")


def most_tokens(text: str) -> int:
    """Return a number of tokens that a text cannot exceed, without splitting it.

    A token has at least one byte of the text, which a tokeniser may decompose and fold before. Up to three tokens are
    added: a mark of the beginning, a language and the end.
    """
    decomposed = unicodedata.normalize("NFKD", text)
    return max(len(form.encode()) for form in (text, decomposed, decomposed.casefold())) + 3


def decode_text(
    options: TeacherOptions,
    sources: list[Path],
    output: Path,
    empty: str = "error",
    too_long: str = "error",
    block_sentences: int = 1000,
    worker: int = 0,
    workers: int = 1,
    noise: Noise | None = None,
) -> None:
    """Translate the lines of `sources` that `output` lacks, or this worker's share of them, after adding `noise`.

    `empty` is one of ON_EMPTY, and `too_long` one of ON_TOO_LONG. Raises UserError for wrong input, if `output` was
    made with other settings, or if the system refuses to write.
    """
    AT_LEAST_1.check("--block-sentences", block_sentences)
    noise = noise or Noise()
    check_options(asdict(noise), Noise)
    translator = open_translator(options)
    rules = SourceRules(translator.length, translator.longest_source, empty, too_long)
    numbers = count()

    def read_by_teacher(line: Line, number: int) -> str:
        return noise(line.text.strip(), options.search.seed, number)

    def check(record: Record) -> None:
        (line,) = record
        rules.check(replace(line, text=read_by_teacher(line, next(numbers))))

    text = TextFiles(sources, block_sentences, check)
    rules.log_counts()
    noted = {
        "teacher_name": options.teacher,
        "source_files": [str(path) for path in sources],
        "max_tokens": options.max_tokens,
    }
    search = options.search.settings()
    if options.search.is_sampling:
        search["batches"] = options.max_tokens  # on which the random numbers depend
    folder = text_folder(output, "nmt-kd decode", noted)
    folder.claim(
        {
            **FORM,
            "languages": pair_name(*translator.languages),
            "sources": text.checksum,
            "sentences": len(text),
            "block_sentences": block_sentences,
            **translator.settings,
            **search,
            **noise.settings(options.search.seed),
            "empty_lines": empty,
            "too_long": too_long,
            "longest_source": translator.longest_source,
        }
    )

    def compute(block: int, progress: Progress) -> list[Decoded]:
        first = block * block_sentences
        lines = [read_by_teacher(line, first + index) for index, (line,) in enumerate(text.block(block))]
        decoded = decode_block(translator, rules, lines, first, options.search.seed + block)
        progress.add(len(lines))
        return decoded

    sentences = fill(folder, text.sizes, worker, workers, compute)
    for what, number in translator.counts.items():
        if number:
            logger.warning(f"{what}: {number:,}")
    logger.info(f"decoded {sentences:,} sentences; when all workers are done, run nmt-kd assemble {output}")


def decode_block(translator: Translator, rules: SourceRules, lines: list[str], first: int, seed: int) -> list[Decoded]:
    """Return the records of `lines`, numbered from `first`; a line that is skipped has no hypotheses."""
    readable = {index: text for index, line in enumerate(lines) if (text := rules.readable(line))}
    found = translator.translate(list(readable.values()), seed) if readable else []
    if len(found) != len(readable):
        raise UserError(f"the teacher returned {len(found):,} translations of {len(readable):,} sentences")
    lists = dict(zip(readable, found, strict=True))
    return [text_record(first + index, line, lists.get(index, [])) for index, line in enumerate(lines)]
