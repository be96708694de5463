"""Train a joint sentencepiece model on a parallel corpus and write every split in its pieces.

    python scripts/subwords.py TEXT_DIR OUT_DIR --languages en de --splits train valid test --vocabulary-size 6000

Reads TEXT_DIR/SPLIT.LANGUAGE; writes OUT_DIR/subwords.model and OUT_DIR/SPLIT.LANGUAGE, one sentence a line.
"""

import argparse
from pathlib import Path

import sentencepiece


def train_subwords(text_files: list[Path], model_prefix: Path, vocabulary_size: int) -> None:
    """Train one BPE model over all the files; every character of the training text stays representable."""
    sentencepiece.SentencePieceTrainer.train(
        input=[str(path) for path in text_files],
        model_prefix=str(model_prefix),
        vocab_size=vocabulary_size,
        model_type="bpe",
        character_coverage=1.0,
        minloglevel=2,
    )


def encode_file(model: sentencepiece.SentencePieceProcessor, source: Path, target: Path) -> None:
    """Write `source` in pieces; the target appears under its name only when it is complete."""
    partial = target.with_name(target.name + ".partial")
    with source.open(encoding="utf-8") as lines, partial.open("w", encoding="utf-8") as out:
        for line in lines:
            print(" ".join(model.encode(line.rstrip("\n"), out_type=str)), file=out)
    partial.rename(target)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--languages", nargs=2, required=True)
    parser.add_argument("--splits", nargs="+", default=["train", "valid", "test"])
    parser.add_argument("--vocabulary-size", type=int, required=True)
    args = parser.parse_args(arguments)

    args.out_dir.mkdir(parents=True, exist_ok=True)
    prefix = args.out_dir / "subwords"
    train_subwords([args.text_dir / f"train.{language}" for language in args.languages], prefix, args.vocabulary_size)
    model = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    for split in args.splits:
        for language in args.languages:
            encode_file(model, args.text_dir / f"{split}.{language}", args.out_dir / f"{split}.{language}")


if __name__ == "__main__":
    main()
