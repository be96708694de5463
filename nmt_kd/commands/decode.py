"""Translate text files, one sentence per line, with any teacher, for sequence-level distillation.

The teacher is recognised from --teacher: a fairseq checkpoint (several, separated by ':', form an ensemble), with its
dictionaries in --data and its --subword-model; a folder with a CTranslate2 model, with its --subword-model unless
nmt-kd export wrote it; or a Hugging Face model (Marian, M2M100, NLLB or mBART), as a folder or a name on the hub, which
is converted for CTranslate2 once and kept under ~/.cache/nmt-kd.

The output is plain text. nmt-kd assemble makes a corpus from it with the student's subword model. Rerun to resume: a
run translates what is missing, with any number of workers. Start workers with torchrun, or each with the same
--num-shards and its own --shard-id (and then choose its GPU with CUDA_VISIBLE_DEVICES).
"""

import argparse
from pathlib import Path

from nmt_kd.decoding.noise import Noise
from nmt_kd.options import add_flags, values_of
from nmt_kd.translators.arguments import add_translator_flags
from nmt_kd.translators.decode import ON_EMPTY, ON_TOO_LONG, decode_text
from nmt_kd.translators.search import Search
from nmt_kd.translators.translator import TeacherOptions
from nmt_kd.workers import add_worker_flags, which_worker

EXAMPLE = "nmt-kd decode --teacher Helsinki-NLP/opus-mt-en-de --sources mono.en --output decoded --beam 4 --nbest 4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    search = Search()
    parser.add_argument("--teacher", required=True, help="checkpoint, folder or Hugging Face name; see above")
    parser.add_argument(
        "--sources",
        required=True,
        nargs="+",
        type=Path,
        metavar="FILE",
        help="text to translate, one sentence per line",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for the translations; rerun to resume")
    add_translator_flags(parser, "teacher")
    parser.add_argument("--beam", type=int, help="beam size (default: 4)")
    parser.add_argument(
        "--nbest", type=int, default=search.nbest, help="translations of each sentence (default: %(default)s)"
    )
    parser.add_argument(
        "--sampling-topk",
        type=int,
        metavar="K",
        help="sample --nbest translations, each token from the K most probable ones, or from all if K is 0",
    )
    parser.add_argument(
        "--sampling-temperature",
        type=float,
        default=search.sampling_temperature,
        help="divides the logits before sampling (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=search.seed, help="seed of sampling and noise (default: %(default)s)"
    )
    parser.add_argument(
        "--max-source-len", type=int, help="longest source in tokens (default: as long as the teacher reads)"
    )
    parser.add_argument(
        "--too-long",
        choices=ON_TOO_LONG,
        default="error",
        help="what to do with longer lines (default: %(default)s)",
    )
    parser.add_argument(
        "--empty-lines", choices=ON_EMPTY, default="error", help="what to do with empty lines (default: %(default)s)"
    )
    parser.add_argument(
        "--block-sentences",
        type=int,
        default=1000,
        help="sentences translated and saved together; a killed worker loses at most one such block "
        "(default: %(default)s)",
    )
    noise = parser.add_argument_group("noise on the sources, which the teacher then translates")
    add_flags(noise, Noise)
    add_worker_flags(parser)


def run(args: argparse.Namespace) -> None:
    worker, workers = which_worker(args.shard_id, args.num_shards)
    decode_text(
        TeacherOptions(search=Search(**values_of(Search, args)), **values_of(TeacherOptions, args)),
        args.sources,
        args.output,
        empty=args.empty_lines,
        too_long=args.too_long,
        block_sentences=args.block_sentences,
        worker=worker,
        workers=workers,
        noise=Noise(**values_of(Noise, args)),
    )
