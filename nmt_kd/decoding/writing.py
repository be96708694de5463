"""Write a corpus as text, and binarise it for training."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from fairseq import options
from fairseq_cli import preprocess

from nmt_kd.decoding.originals import Pair
from nmt_kd.storage.atomic import atomic_file


def write_corpus(pairs: Iterator[Pair], out: Path, source_lang: str, target_lang: str) -> int:
    """Write train.SOURCE and train.TARGET into `out`, whole or not at all, and return the number of pairs."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"train.{language}" for language in (source_lang, target_lang)]
    count = 0
    with atomic_file(paths[0]) as sources, atomic_file(paths[1]) as targets:
        for source, target in pairs:
            sources.write(f"{source}\n".encode())
            targets.write(f"{target}\n".encode())
            count += 1
    return count


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
        for file in data.glob(f"{split}*.{source_lang}-{target_lang}.*"):
            shutil.copy2(file, out / file.name)
