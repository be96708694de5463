"""Translations from elsewhere become a folder in text form."""

import logging
from pathlib import Path

from nmt_kd.decoding.import_formats import FORMATS, Format, Plain, format_of
from nmt_kd.decoding.shards import Decoded
from nmt_kd.decoding.text_form import FORM, pair_name, text_folder, text_record
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1, require
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

    `sources` are the files that plain translations are parallel to, and `format_name` is a key of FORMATS, by default
    that of the files' names. Raises UserError, and writes nothing, if a line does not fit or `output` has others.
    """
    require(AT_LEAST_1.holds(block_sentences), "--block-sentences", block_sentences, AT_LEAST_1.words)
    name = format_of(files, format_name)
    if (name == "plain") != bool(sources):
        raise UserError(
            f"--sources does not apply to {name}, which has its sources; leave it out"
            if sources
            else "plain text needs the file that it translates; give it as --sources"
        )
    kind = FORMATS[name]
    content: Format = Plain(files, block_sentences, sources) if sources else kind(files, block_sentences)
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
