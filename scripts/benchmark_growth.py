"""Measure time and peak memory of the programs that read a whole data set, from a thousand sentences to a million.

    python scripts/benchmark_growth.py --sentences 1000 10000 100000 1000000 --output growth
    python scripts/benchmark_growth.py --from docs/growth.json --output growth

The programs decode and assemble a distilled corpus, write stores of predictions of several kinds of teachers, and
train for an epoch: plain, and with word_kd from a store. (scripts/benchmark_knn.py measures nearest neighbours.) The
sentences are random, with 3 to 8 tokens, and the models are so small that a million sentences take minutes; memory
does not depend on the quality of the teacher. Time is CPU time, which hardly depends on other load. Memory is the
peak of the process according to the kernel, including mapped file pages that it has read. Prints a table, and writes
the figures to OUTPUT/growth.json and a plot to OUTPUT/growth.png; the second command starts from stored figures.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import sentencepiece
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from torch import from_numpy

import nmt_kd  # noqa: F401  (fixes fairseq)
from nmt_kd.evaluation.drawing import as_png, legend_beside, logarithmic, pyplot, styles
from nmt_kd.evaluation.tables import Table, as_markdown

WORDS = [f"w{number}" for number in range(100)]
SYMBOLS = [f"\u2581{word}" for word in WORDS]  # one subword for each word, as sentencepiece writes it
PLUGIN = "--user-dir nmt_kd --cpu"
TINY = (
    "--share-all-embeddings "
    "--encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 1 "
    "--decoder-layers 1 --decoder-embed-dim 8 --decoder-ffn-embed-dim 8 --decoder-attention-heads 1 "
    "--optimizer adam --label-smoothing 0.1 --disable-validation"
)
TRANSLATION = f"{TINY} --arch transformer --criterion label_smoothed_cross_entropy"
MASKED = f"{TINY} --arch cmlm_transformer --task translation_lev --criterion nat_loss --noise random_mask"


@dataclass(frozen=True)
class Program:
    """A command that is measured, and the store that it writes, if any."""

    command: str
    store: Path | None = None


def random_sentences(count: int, random: numpy.random.Generator) -> Iterator[numpy.ndarray]:
    """Yield the numbers of the words of each sentence."""
    for length in random.integers(3, 9, size=count):
        # makes some words frequent, which a teacher can learn
        yield (len(WORDS) * random.random(length) ** 4).astype(int)


def write_data(
    folder: Path, sentences: int, valid: int = 10, subwords: sentencepiece.SentencePieceProcessor | None = None
) -> None:
    """Write a binarised training set of random sentences, and a validation set; by default each word is one symbol."""
    dictionary = Dictionary()
    for symbol in subwords.id_to_piece(list(range(len(subwords)))) if subwords else SYMBOLS:
        dictionary.add_symbol(symbol)
    folder.mkdir()
    random = numpy.random.default_rng(1)
    for split, count in (("train", sentences), ("valid", valid)):
        for language in ("en", "de"):
            dictionary.save(str(folder / f"dict.{language}.txt"))
            prefix = folder / f"{split}.en-de.{language}"
            builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", dtype=numpy.uint16)
            for words in random_sentences(count, random):
                if subwords:
                    pieces = subwords.encode(" ".join(WORDS[word] for word in words), out_type=str)
                    tokens = numpy.array([dictionary.index(piece) for piece in pieces])
                else:
                    tokens = dictionary.nspecial + words
                builder.add_item(from_numpy(numpy.append(tokens, dictionary.eos())))
            builder.finalize(f"{prefix}.idx")


def learn_subwords(prefix: Path, size: int) -> sentencepiece.SentencePieceProcessor:
    """Learn subwords of random sentences, and write the model to PREFIX.model."""
    random = numpy.random.default_rng(1)
    text = [" ".join(WORDS[word] for word in words) for words in random_sentences(20_000, random)]
    text += [" ".join(WORDS)] * 10  # rare words too
    options = {"model_type": "bpe", "hard_vocab_limit": False, "split_by_number": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=str(prefix), vocab_size=size, **options
    )
    return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")


def write_teachers(folder: Path) -> None:
    """Train teachers briefly on folder/data-bin, because those that predict no better than chance are refused."""
    subwords = learn_subwords(folder / "student", 1000)
    assert [subwords.encode(word, out_type=str) for word in WORDS] == [[symbol] for symbol in SYMBOLS]
    write_data(folder / "data-bin-other", 1000, subwords=learn_subwords(folder / "other", 40))
    for name, flags in {
        "teacher": f"{folder}/data-bin {TRANSLATION}",
        "teacher-other": f"{folder}/data-bin-other {TRANSLATION}",
        "teacher-masked": f"{folder}/data-bin {MASKED}",
    }.items():
        training = "--max-update 30 --lr 0.01 --max-tokens 500"
        measure(f"fairseq-train {flags} {PLUGIN} {training} --save-dir {folder / name}")


def programs(folder: Path) -> dict[str, Program]:
    """Return the programs that are measured, by name, in this order."""
    data, decoded = folder / "data-bin", folder / "decoded"
    checkpoint = {name: folder / name / "checkpoint_last.pt" for name in ("teacher", "teacher-other", "teacher-masked")}
    decode = f"fairseq-generate {data} {PLUGIN} --task seq_kd --gen-subset train --path {checkpoint['teacher']}"
    other = (
        f"--source other-vocabulary --other-vocabulary-data {folder}/data-bin-other "
        f"--other-vocabulary-subwords {folder}/other.model --other-vocabulary-student-subwords {folder}/student.model"
    )
    limits = f"--max-tokens 12000 --max-epoch 1 --no-save --save-dir {folder}/epoch"
    epoch = f"fairseq-train {data} {PLUGIN} {TRANSLATION} {limits}"

    def store_of(teacher: str, flags: str = "") -> Program:
        store = folder / f"store-{teacher}"
        cache = f"nmt-kd cache {data} {store} --gen-subset train --max-tokens 12000"
        return Program(f"{cache} --teacher-path {checkpoint[teacher]} {flags}", store)

    stores = {
        "store of a teacher": store_of("teacher"),
        "store of a masked teacher": store_of("teacher-masked", "--source masked"),
        "store of a teacher with other subwords": store_of("teacher-other", other),
    }
    from_store = f"--criterion word_kd --teacher-cache {stores['store of a teacher'].store}"
    return {
        "decoding": Program(f"{decode} --beam 2 --max-len-b 8 --max-tokens 12000 --distill-dir {decoded}"),
        "assembling": Program(f"nmt-kd assemble {decoded} --data {data} --output {folder}/kd"),
        **stores,
        "an epoch of plain training": Program(epoch),
        "an epoch of `word_kd` from the store": Program(f"{epoch} {from_store}"),
    }


def measure(command: str, log: Path | None = None) -> dict[str, float]:
    """Run a command; return its CPU seconds and its peak memory in MB. What it prints is kept in `log`, if any."""
    with open(log, "w+b") if log else tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command.split(), stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            sys.exit(output.read().decode()[-2000:])
    return {"seconds": usage.ru_utime + usage.ru_stime, "megabytes": usage.ru_maxrss * 1024 / 1e6}


def measure_all(sentences: int) -> dict[str, dict[str, float]]:
    """Return the figures of every program for a data set with this number of sentences, and the bytes of its store."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_data(folder / "data-bin", sentences)
        write_teachers(folder)
        results = {}
        for name, program in programs(folder).items():
            results[name] = measure(program.command)
            if program.store:
                size = sum(file.stat().st_size for file in program.store.rglob("*") if file.is_file())
                results[name]["store_megabytes"] = size / 1e6
        return results


def figures(seconds: float, megabytes: float, store_megabytes: float | None = None) -> str:
    """Return the text of a cell."""
    size = "" if store_megabytes is None else f", {store_megabytes:,.1f} MB on disk"
    return f"{seconds:,.0f} s, {megabytes:,.0f} MB{size}"


def table(results: dict[int, dict]) -> Table:
    """Return the table of the figures by number of sentences, with one row for each program."""
    header = ["", *(f"{sentences:,} sentences" for sentences in results)]
    names = next(iter(results.values()))
    return Table(header, [[name, *(figures(**found[name]) for found in results.values())] for name in names])


def read(file: Path) -> dict[int, dict]:
    """Return the figures of an earlier run."""
    return {int(sentences): found for sentences, found in json.loads(file.read_text(encoding="utf-8")).items()}


def draw(results: dict[int, dict], file: Path) -> None:
    """Plot seconds and megabytes by number of sentences, with one line for each program."""
    pyplot_ = pyplot()
    figure, panels = pyplot_.subplots(1, 2, figsize=(7, 3), layout="constrained")
    names = list(next(iter(results.values())))
    for panel, (unit, label) in zip(
        panels, {"seconds": "CPU seconds", "megabytes": "peak memory of the process, MB"}.items(), strict=True
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
    parser.add_argument("--from", dest="stored", type=Path, metavar="FILE", help="print and plot these figures")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    results: dict[int, dict] = read(args.stored) if args.stored else {}
    for sentences in [] if args.stored else args.sentences:
        results[sentences] = measure_all(sentences)
        print(f"  {sentences}: {results[sentences]}", file=sys.stderr, flush=True)
        (args.output / "growth.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(as_markdown(table(results)))
    draw(results, args.output / "growth.png")


if __name__ == "__main__":
    main()
