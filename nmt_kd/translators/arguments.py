"""The flags of commands that translate with any translator."""

import argparse
from pathlib import Path

from nmt_kd.translators.search import Search


def add_translator_flags(parser: argparse._ActionsContainer, translator: str) -> None:
    """Add the flags that say how to read a translator, such as "teacher", and how to search with it."""
    search = Search()
    parser.add_argument("--data", help=f"fairseq: folder with the dictionaries of the {translator}")
    parser.add_argument(
        "--subword-model", type=Path, help=f"fairseq, CTranslate2: sentencepiece model or BPE codes of the {translator}"
    )
    parser.add_argument(
        "--target-subword-model", type=Path, help="subword model of the target side (default: --subword-model)"
    )
    parser.add_argument("--source-lang", help="language of the sources, as the model names it (default: its only one)")
    parser.add_argument("--target-lang", help="language to translate into (default: its only one)")
    parser.add_argument(
        "--lenpen",
        type=float,
        default=search.lenpen,
        help="length penalty: scores are divided by length to this power (default: %(default)s)",
    )
    parser.add_argument(
        "--max-len", type=int, default=search.max_len, help="longest translation in tokens (default: %(default)s)"
    )
    parser.add_argument(
        "--compute-type",
        default="default",
        help="precision: float32 or float16, with CTranslate2 also int8, ... (default: the model's)",
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=12000,
        help="source tokens in a batch, with padding; CTranslate2 takes at most 1024 on a CPU (default: %(default)s)",
    )
