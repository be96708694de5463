"""Measure the decoding speed of stock fairseq-generate and of the task seq_kd with its backends, on one machine.

    python scripts/benchmark_decoding.py runs/multi30k/data-bin --path runs/multi30k/teacher/checkpoint_best.pt \\
        --gen-subset train --json decoding.json

The systems decode the same sentences, one after the other, each in a separate process. For stock, fairseq-generate
counts only the time spent in beam search; for seq_kd, the time from the first block to the last counts, including
writing. "identical" is the share of sentences with the same best hypothesis as stock; BLEU compares the best hypotheses
with the references.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sacrebleu.metrics import BLEU

from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.originals import Originals
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.evaluation.tables import Table, as_markdown

STOCK = "fairseq-generate"
SYSTEMS = {
    STOCK: [],
    "seq_kd, fairseq": ["--distill-backend", "fairseq"],
    "seq_kd, ctranslate2 float32": ["--distill-backend", "ctranslate2"],
    "seq_kd, ctranslate2 int8": ["--distill-backend", "ctranslate2", "--distill-compute-type", "int8"],
}


def decode(system: str, flags: list[str], folder: Path) -> tuple[float, dict[int, str]]:
    """Return the sentences per second, and the best hypotheses, in subwords, by sentence number."""
    command = ["fairseq-generate", *flags, "--no-progress-bar", "--user-dir", "nmt_kd"]
    if system != STOCK:
        command += ["--task", "seq_kd", "--distill-dir", str(folder), *SYSTEMS[system]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    speed = float(re.findall(r"([\d.,]+) sentences/s", done.stdout + done.stderr)[-1].replace(",", ""))
    if system != STOCK:
        return speed, {sentence.id: sentence.hypotheses[0].text for sentence in in_order(ShardFolder(folder))}
    best = {}
    for number, text in re.findall(r"^H-(\d+)\t[^\t]*\t(.*)$", done.stdout, re.MULTILINE):
        best.setdefault(int(number), text)
    return speed, best


def table_of(rows: list[dict]) -> Table:
    """Format the rows as a table."""
    header = ["system", "sentences/s", "relative to stock", "identical, %", "BLEU"]
    cells = [
        [
            row["system"],
            f"{row['sentences_per_second']:.0f}",
            f"{row['relative']:.2f}",
            f"{100 * row['identical']:.2f}",
            f"{row['bleu']:.2f}",
        ]
        for row in rows
    ]
    return Table(header, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--path", required=True, help="the teacher's checkpoint")
    parser.add_argument("--source-lang", default="en")
    parser.add_argument("--target-lang", default="de")
    parser.add_argument("--gen-subset", default="test")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args, flags = parser.parse_known_args()
    languages = ["--source-lang", args.source_lang, "--target-lang", args.target_lang]
    common = [args.data, *languages, "--path", args.path, "--gen-subset", args.gen_subset]
    common += flags or ["--beam", "4", "--lenpen", "0.6", "--nbest", "4", "--max-tokens", "6000", "--cpu"]
    originals = Originals.load(Path(args.data), args.source_lang, args.target_lang, args.gen_subset)
    references = [originals.form.plain(originals.texts(number)[1]) for number in range(len(originals.dataset))]

    rows, stock = [], None
    for system in [STOCK, *(system for system in args.systems if system != STOCK)]:
        with tempfile.TemporaryDirectory() as folder:
            speed, best = decode(system, common, Path(folder))
        stock = stock or (speed, best)
        if len(best) != len(references):
            sys.exit(
                f"benchmark_decoding.py: error: {system} decoded {len(best)} of {len(references)} sentences; "
                "check that the flags do not skip any"
            )
        translations = [originals.form.plain(best[number]) for number in range(len(best))]
        rows.append(
            {
                "system": system,
                "sentences_per_second": speed,
                "relative": speed / stock[0],
                "identical": sum(best[number] == text for number, text in stock[1].items()) / len(best),
                "bleu": BLEU().corpus_score(translations, [references]).score,
            }
        )
        print(rows[-1], file=sys.stderr)
    print(as_markdown(table_of(rows)))
    if args.json:
        args.json.write_text(json.dumps({"arguments": common, "systems": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
