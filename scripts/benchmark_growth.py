"""Time and peak memory of what reads a whole data set, from a thousand sentences to a million.

    python scripts/benchmark_growth.py --sentences 1000 10000 100000 1000000 --output growth

Random sentences of 3 to 8 tokens and models so small that a million of them take minutes; what a program holds in
memory does not depend on how good the teacher is. Measured are decoding and assembling a distilled corpus,
caching the teacher's words, and an epoch of training: plain, and word_kd from the cache. Memory is a process's peak as
the kernel counts it, the pages of mapped files that it has read included. Prints a table, and writes the figures into
OUTPUT/growth.json and a plot, OUTPUT/growth.png.
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
from nmt_kd.evaluation.drawing import as_png, legend_beside, logarithmic, pyplot, styles
from nmt_kd.evaluation.tables import Table, as_markdown

SYMBOLS = 100
PLUGIN = "--user-dir nmt_kd --cpu"
TINY = (
    "--arch transformer --share-all-embeddings "
    "--encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 1 "
    "--decoder-layers 1 --decoder-embed-dim 8 --decoder-ffn-embed-dim 8 --decoder-attention-heads 1 "
    "--optimizer adam --label-smoothing 0.1 --disable-validation"
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
                skewed = random.random(length + 1) ** 4  # so that some words are frequent, which a teacher can learn
                tokens = dictionary.nspecial + (SYMBOLS * skewed).astype(int)
                tokens[-1] = dictionary.eos()
                builder.add_item(from_numpy(tokens))
            builder.finalize(f"{prefix}.idx")


def programs(folder: Path) -> dict[str, str]:
    """What is measured, in this order, and the command of each."""
    data, teacher, decoded, cache = (folder / name for name in ("data-bin", "teacher", "decoded", "cache"))
    checkpoint = teacher / "checkpoint_last.pt"
    decode = f"fairseq-generate {data} {PLUGIN} --task seq_kd --gen-subset train --path {checkpoint}"
    epoch = f"fairseq-train {data} {PLUGIN} {TINY} --max-tokens 12000 --max-epoch 1 --no-save"
    return {
        "decoding": f"{decode} --beam 2 --max-len-b 8 --max-tokens 12000 --distill-dir {decoded}",
        "assembling": f"nmt-kd assemble {decoded} --data {data} --output {folder}/kd",
        "caching": f"nmt-kd cache {data} --teacher-path {checkpoint} --gen-subset train --max-tokens 12000 {cache}",
        "plain training": f"{epoch} --criterion label_smoothed_cross_entropy",
        "training from the cache": f"{epoch} --criterion word_kd --teacher-cache {cache}",
    }


def measure(command: str) -> dict[str, float]:
    """Run a command; its seconds and its peak memory in MB."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command.split(), stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            sys.exit(output.read().decode()[-2000:])
    return {"seconds": time.monotonic() - started, "megabytes": usage.ru_maxrss / 1024}


def measure_all(sentences: int) -> dict[str, dict[str, float]]:
    """The figures of every program for a data set of so many sentences."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data-bin", sentences)
        teacher = f"fairseq-train {folder}/data-bin {PLUGIN} {TINY} --criterion label_smoothed_cross_entropy"
        # a teacher that is no better than chance would be refused
        measure(f"{teacher} --save-dir {folder}/teacher --max-update 30 --lr 0.01 --max-tokens 500")
        return {program: measure(command) for program, command in programs(folder).items()}


def draw(results: dict[int, dict], file: Path) -> None:
    """Seconds and megabytes against sentences, a line for each program."""
    pyplot_ = pyplot()
    figure, panels = pyplot_.subplots(1, 2, figsize=(7, 3), layout="constrained")
    names = list(next(iter(results.values())))
    for panel, (unit, label) in zip(
        panels, {"seconds": "seconds", "megabytes": "MB of the process at its peak"}.items(), strict=True
    ):
        looks = styles()
        for name in names:
            panel.plot(list(results), [found[name][unit] for found in results.values()], markersize=4, **next(looks))
        logarithmic(panel)
        logarithmic(panel, "y")
        panel.set(xlabel="sentences", ylabel=label, xticks=list(results))
        panel.minorticks_off()
    legend_beside(panels[-1], panels[-1].get_lines(), names)
    file.write_bytes(as_png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    results: dict[int, dict] = {}
    for sentences in args.sentences:
        results[sentences] = measure_all(sentences)
        print(f"  {sentences}: {results[sentences]}", file=sys.stderr, flush=True)
        (args.output / "growth.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    names = next(iter(results.values()))
    header = ["", *(f"{sentences:,} sentences" for sentences in results)]
    cells = [
        [name, *("{seconds:,.0f} s, {megabytes:,.0f} MB".format(**found[name]) for found in results.values())]
        for name in names
    ]
    print(as_markdown(Table(header, cells)))
    draw(results, args.output / "growth.png")


if __name__ == "__main__":
    main()
