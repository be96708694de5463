"""Peak memory and speed of decoding and assembling, from a thousand sentences to a million.

    python scripts/benchmark_growth.py --sentences 1000 10000 100000 1000000 --json growth.json

Random sentences of 3 to 8 tokens and an untrained teacher so small that a million of them take minutes; what a program
holds in memory does not depend on what the teacher makes of them. Memory is a process's peak as the kernel counts it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from torch import from_numpy

import nmt_kd  # noqa: F401  (makes fairseq work)
from nmt_kd.evaluation.tables import Table, as_markdown

SYMBOLS = 100
PLUGIN = "--user-dir nmt_kd --cpu"
TINY = (
    "--arch transformer --share-all-embeddings "
    "--encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 1 "
    "--decoder-layers 1 --decoder-embed-dim 8 --decoder-ffn-embed-dim 8 --decoder-attention-heads 1"
)


def write_data(folder: Path, sentences: int) -> None:
    """A binarised training set of random sentences, and a validation set of ten."""
    dictionary = Dictionary()
    for symbol in range(SYMBOLS):
        dictionary.add_symbol(f"w{symbol}")
    folder.mkdir()
    random = numpy.random.default_rng(1)
    for split, count in (("train", sentences), ("valid", 10)):
        for language in ("en", "de"):
            dictionary.save(str(folder / f"dict.{language}.txt"))
            prefix = folder / f"{split}.en-de.{language}"
            builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", dtype=numpy.uint16)
            for length in random.integers(3, 9, size=count):
                tokens = random.integers(dictionary.nspecial, len(dictionary), size=length + 1)
                tokens[-1] = dictionary.eos()
                builder.add_item(from_numpy(tokens))
            builder.finalize(f"{prefix}.idx")


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; its seconds and its peak memory in MB."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            sys.exit(output.read().decode()[-2000:])
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    rows = []
    for sentences in args.sentences:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            data, teacher, decoded = folder / "data-bin", folder / "teacher", folder / "decoded"
            write_data(data, sentences)
            training = f"fairseq-train {data} {PLUGIN} {TINY} --save-dir {teacher} --max-update 1 --max-tokens 500"
            measure(f"{training} --optimizer adam --disable-validation".split())
            search = f"--path {teacher}/checkpoint_last.pt --beam 2 --max-len-b 8 --max-tokens 12000"
            task = f"--task seq_kd --gen-subset train --distill-dir {decoded}"
            decoding = measure(f"fairseq-generate {data} {PLUGIN} {task} {search}".split())
            assembling = measure(f"nmt-kd assemble {decoded} --data {data} --output {folder}/kd".split())
        rows.append(
            {
                "sentences": sentences,
                "decoding_seconds": decoding[0],
                "decoding_mb": decoding[1],
                "assembling_seconds": assembling[0],
                "assembling_mb": assembling[1],
            }
        )
        print(rows[-1], file=sys.stderr)
    header = ["sentences", "decoding, seconds", "decoding, peak MB", "assembling, seconds", "assembling, peak MB"]
    cells = [[f"{row['sentences']:,}", *(f"{value:,.0f}" for value in list(row.values())[1:])] for row in rows]
    print(as_markdown(Table(header, cells)))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
