"""Translations from elsewhere become a folder in text form."""

import logging
from itertools import zip_longest
from pathlib import Path

from nmt_kd.decoding.import_formats import FORMATS, Format, Plain, format_of
from nmt_kd.decoding.settings import pair_name
from nmt_kd.decoding.shards import Decoded
from nmt_kd.decoding.text_files import TextFiles
from nmt_kd.decoding.text_form import FORM, text_folder, text_record
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1
from nmt_kd.progress import Progress
from nmt_kd.storage.blocks import fill

logger = logging.getLogger(__name__)


def import_translations(
    files: list[Path],
    output: Path,
    source_lang: str,
    target_lang: str,
    sources: list[Path] | None = None,
    format_name: str | None = None,
    block_sentences: int = 1000,
) -> int:
    """Write the translations in `files` into `output`, unless it has them, and return the number of sentences.

    `sources` are the files that the translations are parallel to; only plain translations need them. `format_name` is a
    key of FORMATS, by default that of the files' names. Raises UserError, and writes nothing, if a line does not fit or
    `output` has others.
    """
    AT_LEAST_1.check("--block-sentences", block_sentences)
    name = format_of(files, format_name)
    if name == "plain":
        if not sources:
            raise UserError("plain text needs the file that it translates; give it as --sources")
        content: Format = Plain(files, block_sentences, sources)
    else:
        content = FORMATS[name](files, block_sentences)
        if sources:
            _check_sources(content, TextFiles(sources, block_sentences))
    noted = {"files": [str(path) for path in files], "source_files": [str(path) for path in sources or []]}
    folder = text_folder(output, "nmt-kd import", noted)
    folder.claim(
        {
            **FORM,
            "languages": pair_name(source_lang, target_lang),
            "translations": content.checksum,
            "format": name,
            "sentences": len(content.translations),
            "block_sentences": block_sentences,
        }
    )

    def compute(block: int, progress: Progress) -> list[Decoded]:
        entries = content.block(block)
        progress.add(len(entries))
        first = block * block_sentences
        return [text_record(first + index, *entry) for index, entry in enumerate(entries)]

    fill(folder, content.translations.sizes, 0, 1, compute)
    return len(content.translations)


def _check_sources(content: Format, sources: TextFiles) -> None:
    """Raise UserError unless the translations have these sources, in this order."""
    given = (source for block in range(len(content.translations.sizes)) for source, _ in content.block(block))
    for source, record in zip_longest(given, sources.records()):
        if record is None:
            raise UserError(f"{', '.join(map(str, content.translations.paths))}: more sources than --sources has lines")
        line = record[0]
        if source is None or source.split() != line.text.split():
            found = "has no translation"
            if source is not None:
                found = f"does not match the source in the translations, {source!r}"
            raise line.error(f"{found}; give the translations in the order of --sources, or leave out --sources")
