"""Measure time, memory and bytes of nearest neighbours (docs/nearest-neighbours.md) as the training set grows.

    python scripts/benchmark_knn.py --sentences 1000 3000 10000

For random training sets of these sizes and a small transformer, it writes a datastore, finds the neighbours of a
validation set (exactly, and with faiss, first with the building of its index and then without), and makes a cache of
them. The neighbours of the whole training set take as many times longer as it has more positions than the validation
set; the last column has that time for the exact search. CPU time and memory are those of whole commands, starting
included: the first line is that of a command that does nothing. Memory is the peak of the process according to the
kernel, including mapped file pages that it has read.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from benchmark_growth import PLUGIN, TRANSLATION, measure, write_data

from nmt_kd.evaluation.tables import Table, as_markdown

LAYERS = "--encoder-embed-dim {0} --decoder-embed-dim {0}"


def megabytes(folder: Path, pattern: str = "**/*") -> float:
    """Return the size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file()) / 1e6


def positions(log: Path) -> int:
    """Return the number of positions that the log of nmt-kd cache names."""
    return int(re.findall(r"means of ([\d,]+) positions", log.read_text(encoding="utf-8"))[-1].replace(",", ""))


def measure_all(sentences: int, valid: int, width: int, k: int) -> list[str]:
    """Return the cells of a row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, store, log = folder / "data-bin", folder / "datastore", folder / "log"
        write_data(data, sentences, valid)
        train = f"fairseq-train {data} {PLUGIN} {TRANSLATION} {LAYERS.format(width)}"
        measure(f"{train} --save-dir {folder} --max-update 30 --lr 0.01 --max-tokens 500")
        base = f"--teacher-path {folder}/checkpoint_last.pt"
        start = measure("nmt-kd --version")
        building = measure(f"nmt-kd datastore {data} {store} {base}")
        base += " --gen-subset valid"
        find = f"nmt-kd neighbours {data} {base} --knn-datastore {store} --knn-k {k}"
        exact = measure(f"{find} --knn-index exact {folder}/exact")
        faiss = [measure(f"{find} --knn-index faiss {folder}/faiss{run}", log) for run in range(2)]
        recall = re.findall(r"finds ([\d.]+%) of", log.read_text(encoding="utf-8"))[-1]
        cache = f"nmt-kd cache {data} {base} --source knn --knn-neighbours {folder}/exact --knn-k {k}"
        caching = measure(f"{cache} {folder}/cache", log)
        queries, entries = positions(log), round(megabytes(store, "*.safetensors") * 1e6 / (2 * width + 2))
        searching = (exact["seconds"] - start["seconds"]) / queries
        found = {"start": start, "datastore": building, "exact": exact, "index": faiss[0], "faiss": faiss[1]}
        print(f"  {sentences}: {queries} queries, {found | {'cache': caching}}", file=sys.stderr, flush=True)
        return [
            f"{sentences:,}",
            f"{entries:,}",
            *(f"{item['seconds']:,.1f} s, {item['megabytes']:,.0f} MB" for item in (*found.values(), caching)),
            recall,
            f"{megabytes(store, '*.safetensors'):,.1f}",
            f"{megabytes(store, '*.faiss'):,.1f}",
            f"{megabytes(folder / 'exact') * 1e6 / queries:,.0f}",
            f"{megabytes(folder / 'cache') * 1e6 / queries:,.0f}",
            f"{searching * entries / 60:,.1f} min",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--valid", type=int, default=500, help="sentences whose neighbours are found")
    parser.add_argument("--width", type=int, default=128, help="of the keys")
    parser.add_argument("--k", type=int, default=64, help="neighbours")
    args = parser.parse_args()
    header = ["sentences", "entries", "start", "datastore", "exact", "faiss with index", "faiss", "cache", "recall"]
    header += ["datastore MB", "index MB", "neighbours B/position", "cache B/position", "exact, all of train"]
    rows = [measure_all(sentences, args.valid, args.width, args.k) for sentences in args.sentences]
    columns = zip(header, *rows, strict=True)
    print(as_markdown(Table([*next(columns)], [list(column) for column in columns])))


if __name__ == "__main__":
    main()
