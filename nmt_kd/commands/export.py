"""Export a student as CTranslate2 models, which need no fairseq, with a summary of size, speed and quality."""

import argparse
from pathlib import Path

from nmt_kd.exporting.export import export
from nmt_kd.exporting.sample import Measurement
from nmt_kd.options import add_flags, values_of

EXAMPLE = (
    "nmt-kd export student.pt --data data-bin --subword-model subwords.model --compute-types float32 int8 "
    "--teacher teacher.pt --output exported"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the student's checkpoint")
    parser.add_argument("--data", required=True, help="folder with the student's binarised data")
    parser.add_argument(
        "--subword-model", type=Path, required=True, help="sentencepiece model or BPE codes that split the data's text"
    )
    parser.add_argument(
        "--compute-types",
        nargs="+",
        default=["float32", "int8"],
        metavar="TYPE",
        help="write a model for each: float32, float16, int8, ... (default: float32 int8). Nothing is written if a "
        "float32 or float16 model translates fewer than 95 percent of the sentences as well as fairseq does, up to "
        "rounding",
    )
    parser.add_argument(
        "--shortlist",
        metavar="FOLDER",
        help="folder with binarised data, preferably the student's training data; eflomal aligns it, and decoding then "
        "considers only frequent target words and those aligned with the words of the source",
    )
    parser.add_argument("--teacher", help="checkpoint to compare with; separate those of an ensemble with ':'")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write; an earlier export of the checkpoint is replaced"
    )
    add_flags(parser, Measurement)


def run(args: argparse.Namespace) -> None:
    summary = export(
        args.checkpoint,
        args.data,
        args.subword_model,
        args.compute_types,
        args.output,
        args.teacher,
        Measurement(**values_of(Measurement, args)),
        args.shortlist,
    )
    print(summary.as_markdown(), end="")
