"""Learn a joint subword model on a parallel corpus and split the text into subwords.

    python scripts/subwords.py TEXT_DIR OUT_DIR --languages en de --vocabulary-size 6000
    python scripts/subwords.py TEXT_DIR OUT_DIR --languages en de --bpe-operations 32000
    python scripts/subwords.py TEXT_DIR OUT_DIR --languages en de --bpe-codes teacher/bpecodes

The first command learns a sentencepiece model with this vocabulary size, for plain text (BPE, or a unigram model with
--algorithm unigram); the second learns subword-nmt BPE codes with this number of merges, for tokenised text; the third
uses existing BPE codes. Reads TEXT_DIR/SPLIT.LANGUAGE; writes OUT_DIR/SPLIT.LANGUAGE, one sentence per line, and
OUT_DIR/subwords.model or OUT_DIR/subwords.codes.
"""

import argparse
import io
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import sentencepiece
from parallel import add_workers_option, chunks, map_in_order

from nmt_kd.errors import UserError
from nmt_kd.subword_model import SubwordModel


def train_subwords(text_files: list[Path], model_prefix: Path, vocabulary_size: int, algorithm: str = "bpe") -> None:
    """Train one sentencepiece model on all files, covering every character of the training text."""
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=[str(path) for path in text_files],
            model_prefix=str(model_prefix),
            vocab_size=vocabulary_size,
            model_type=algorithm,
            character_coverage=1.0,
            minloglevel=3,  # its errors are in the exception
        )
    except RuntimeError as error:
        reason = " ".join(str(error).rpartition("] ")[2].split()) or "see above"
        raise SystemExit(
            f"subwords.py: error: cannot learn {vocabulary_size:,} subwords on {text_files[0]}: {reason}"
        ) from None


def count_words(lines: list[bytes]) -> Counter:
    return Counter(word for line in lines for word in line.decode("utf-8").split())


def learn_bpe(text_files: list[Path], codes: Path, operations: int, workers: int) -> None:
    """Learn joint BPE codes on all files and write them to `codes`."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # a progress bar would fill the log
    try:
        from subword_nmt.learn_bpe import learn_bpe
    except ImportError:
        raise UserError("subword-nmt is needed to learn BPE codes; pip install 'nmt-kd[recipes]'") from None

    words: Counter = Counter()
    for path in text_files:
        with path.open("rb") as lines:
            for counted in map_in_order(count_words, chunks(lines), workers):
                words.update(counted)
    listed = io.StringIO("".join(f"{word} {count}\n" for word, count in words.items()))
    with codes.open("w", encoding="utf-8", newline="\n") as out:
        learn_bpe(listed, out, operations, is_dict=True)


@cache
def splitter(model: Path) -> Callable[[str], str]:
    return SubwordModel.read(model).splitter()


def encode(model: Path, lines: list[bytes]) -> list[str]:
    return [splitter(model)(line.decode("utf-8").rstrip("\n")) for line in lines]


def encode_file(model: Path, source: Path, target: Path, workers: int) -> None:
    """Split `source` into subwords and write them to `target`, which appears only when it is complete."""
    partial_file = target.with_name(target.name + ".partial")
    with source.open("rb") as lines, partial_file.open("w", encoding="utf-8", newline="\n") as out:
        for encoded in map_in_order(partial(encode, model), chunks(lines), workers):
            out.writelines(line + "\n" for line in encoded)
    partial_file.rename(target)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--languages", nargs=2, required=True)
    parser.add_argument("--splits", nargs="+", default=["train", "valid", "test"])
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--vocabulary-size", type=int, help="size of the sentencepiece vocabulary to learn")
    parser.add_argument(
        "--algorithm", choices=["bpe", "unigram"], default="bpe", help="of sentencepiece (default: bpe)"
    )
    kind.add_argument("--bpe-operations", type=int, help="number of BPE merges to learn")
    kind.add_argument("--bpe-codes", type=Path, help="file with existing BPE codes")
    add_workers_option(parser)
    args = parser.parse_args(arguments)

    args.out_dir.mkdir(parents=True, exist_ok=True)
    training_text = [args.text_dir / f"train.{language}" for language in args.languages]
    if args.vocabulary_size:
        train_subwords(training_text, args.out_dir / "subwords", args.vocabulary_size, args.algorithm)
        model = args.out_dir / "subwords.model"
    else:
        model = args.out_dir / "subwords.codes"
        if args.bpe_codes:
            shutil.copyfile(args.bpe_codes, model)
        else:
            learn_bpe(training_text, model, args.bpe_operations, args.workers)
    for split in args.splits:
        for language in args.languages:
            name = f"{split}.{language}"
            encode_file(model, args.text_dir / name, args.out_dir / name, args.workers)


if __name__ == "__main__":
    main()
