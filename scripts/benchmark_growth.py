"""Measure time and peak memory of the programs that read a whole data set, from a thousand sentences to a million.

    python scripts/benchmark_growth.py --sentences 1000 10000 100000 1000000 --output growth

The programs decode and assemble a distilled corpus, cache the teacher's predictions, and train for an epoch: plain, and
with word_kd from the cache. The sentences are random, with 3 to 8 tokens, and the models are so small that a million
sentences take minutes; memory does not depend on the quality of the teacher. Memory is the peak of the process
according to the kernel, including mapped file pages that it has read. Prints a table, and writes the figures to
OUTPUT/growth.json and a plot to OUTPUT/growth.png.
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

import nmt_kd  # noqa: F401  (fixes fairseq)
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


def write_data(folder: Path, sentences: int, valid: int = 10) -> None:
    """Write a binarised training set of random sentences, and a validation set."""
    dictionary = Dictionary()
    for symbol in range(SYMBOLS):
        dictionary.add_symbol(f"w{symbol}")
    folder.mkdir()
    random = numpy.random.default_rng(1)
    for split, count in (("train", sentences), ("valid", valid)):
        for language in ("en", "de"):
            dictionary.save(str(folder / f"dict.{language}.txt"))
            prefix = folder / f"{split}.en-de.{language}"
            builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", dtype=numpy.uint16)
            for length in random.integers(3, 9, size=count):
                skewed = random.random(length + 1) ** 4  # makes some words frequent, which a teacher can learn
                tokens = dictionary.nspecial + (SYMBOLS * skewed).astype(int)
                tokens[-1] = dictionary.eos()
                builder.add_item(from_numpy(tokens))
            builder.finalize(f"{prefix}.idx")


def programs(folder: Path) -> dict[str, str]:
    """Return the command of each program that is measured, in this order."""
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


def measure(command: str, log: Path | None = None) -> dict[str, float]:
    """Run a command; return its time in seconds and its peak memory in MB. What it prints is kept in `log`, if any."""
    started = time.monotonic()
    with open(log, "w+b") if log else tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command.split(), stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            sys.exit(output.read().decode()[-2000:])
    return {"seconds": time.monotonic() - started, "megabytes": usage.ru_maxrss / 1024}


def measure_all(sentences: int) -> dict[str, dict[str, float]]:
    """Return the figures of every program for a data set with this number of sentences."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data-bin", sentences)
        teacher = f"fairseq-train {folder}/data-bin {PLUGIN} {TINY} --criterion label_smoothed_cross_entropy"
        # train it a little, as a teacher that is no better than chance would be refused
        measure(f"{teacher} --save-dir {folder}/teacher --max-update 30 --lr 0.01 --max-tokens 500")
        return {program: measure(command) for program, command in programs(folder).items()}


def draw(results: dict[int, dict], file: Path) -> None:
    """Plot seconds and megabytes by number of sentences, with one line for each program."""
    pyplot_ = pyplot()
    figure, panels = pyplot_.subplots(1, 2, figsize=(7, 3), layout="constrained")
    names = list(next(iter(results.values())))
    for panel, (unit, label) in zip(
        panels, {"seconds": "seconds", "megabytes": "peak memory of the process, MB"}.items(), strict=True
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
