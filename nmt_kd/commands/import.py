"""Import translations made elsewhere, from which nmt-kd assemble can make a training corpus.

Files are UTF-8, and no source or translation may be empty. Three formats are accepted, by the ending of the files'
names or as --format says:

  .jsonl  one JSON object per line: {"source": "...", "translations": ["...", ...], "scores": [-0.3, ...]}
          "scores" may be left out; other keys are refused
  .tsv    rows of SOURCE, TAB, TRANSLATION and optionally TAB, SCORE; no header, no quoting. Neighbouring rows with the
          same source form one list of translations; a list has a score in each row or in none
  others  plain text, one translation per line, parallel to the lines of --sources

Higher scores are better: translations with scores are sorted, best first; those without keep their order and get the
score 0. An invalid line is reported with its number, and nothing is written.
"""

import argparse
from pathlib import Path

from nmt_kd.decoding.import_formats import FORMATS
from nmt_kd.decoding.importing import import_translations

EXAMPLE = "nmt-kd import translations.de --sources train.en --source-lang en --target-lang de --output imported"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files of translations, in one format")
    parser.add_argument(
        "--sources",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the source texts, one per line; plain text needs them, other formats are checked against them",
    )
    parser.add_argument("--format", choices=FORMATS, help="format of the files (default: by the ending of their names)")
    parser.add_argument("--source-lang", required=True, help="language of the sources")
    parser.add_argument("--target-lang", required=True, help="language of the translations")
    parser.add_argument("--output", required=True, type=Path, help="folder to write; rerun to resume")
    parser.add_argument(
        "--block-sentences", type=int, default=1000, help="sentences saved in a file (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    sentences = import_translations(
        args.files,
        args.output,
        args.source_lang,
        args.target_lang,
        args.sources,
        args.format,
        args.block_sentences,
    )
    print(f"{args.output} has {sentences:,} sentences with their translations")
