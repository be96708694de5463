"""Score translations: BLEU, chrF, TER, tokenised BLEU, COMET, with significance against a baseline.

Several files under one name are several runs of one system; their mean and standard deviation are shown. With a
baseline, each difference is tested with sacrebleu's paired bootstrap and approximate randomisation: ** means p < 0.01
in both tests, * means p < 0.05. Hypotheses and references are files of sentences (nmt-kd translations extracts them
from fairseq-generate's output). multi-bleu needs tokenised text, or --moses.
"""

import argparse
import json
import logging
from pathlib import Path

from sacrebleu.metrics.base import Metric

from nmt_kd.errors import UserError
from nmt_kd.evaluation import scores
from nmt_kd.evaluation.comet import comet_metrics
from nmt_kd.evaluation.metrics import METRICS, SegmentMean, as_multi_bleu
from nmt_kd.evaluation.named_runs import named_runs
from nmt_kd.evaluation.tables import FORMATS
from nmt_kd.evaluation.texts import check_same_length, read_lines
from nmt_kd.options import AT_LEAST_1

EXAMPLE = (
    "nmt-kd score --references test.de --systems plain=plain.de word_kd=word_kd.de --metrics bleu chrf --baseline plain"
)
COMET_MODELS = ["Unbabel/wmt20-comet-da"]  # as in the papers; the usual newer one is Unbabel/wmt22-comet-da
COMET_DIGITS = 4
BOOTSTRAP_SAMPLES, RANDOMISATION_TRIALS = 1000, 10000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--references",
        nargs="+",
        type=Path,
        required=True,
        help="one or several files of references; COMET uses the first",
    )
    parser.add_argument("--sources", type=Path, help="source sentences; required by COMET")
    parser.add_argument(
        "--systems", nargs="+", required=True, metavar="NAME=FILE", help="translations; repeat a name for several runs"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=[*METRICS, "comet"],
        default=["bleu", "chrf"],
        help="bleu, chrf and ter as in sacrebleu, multi-bleu as in multi-bleu.perl (default: bleu chrf)",
    )
    parser.add_argument("--baseline", metavar="NAME", help="system to test the others against")
    parser.add_argument(
        "--bootstrap-samples",
        type=int,
        metavar="N",
        help=f"samples of the paired bootstrap (default: {BOOTSTRAP_SAMPLES})",
    )
    parser.add_argument(
        "--randomisation-trials",
        type=int,
        metavar="N",
        help=f"trials of the approximate randomisation (default: {RANDOMISATION_TRIALS})",
    )
    parser.add_argument(
        "--moses", metavar="LANGUAGE", help="for multi-bleu, tokenise as Moses does for this language, such as de"
    )
    parser.add_argument(
        "--comet-models",
        nargs="+",
        metavar="MODEL",
        help="names on the Hugging Face hub, such as Unbabel/wmt22-comet-da, or, without a network, folders with "
        f"hparams.yaml and checkpoints/model.ckpt (default: {' '.join(COMET_MODELS)})",
    )
    parser.add_argument(
        "--format", choices=[*FORMATS, "json"], default="text", help="format of the output (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    _check_flags(args)
    samples, trials = args.bootstrap_samples or BOOTSTRAP_SAMPLES, args.randomisation_trials or RANDOMISATION_TRIALS
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it warns about tokenised text, which multi-bleu needs
    runs_of = named_runs(args.systems, "FILE")
    files = {name: [Path(path) for path in runs] for name, runs in runs_of.items()}
    references = [read_lines(path) for path in args.references]
    texts = {path: read_lines(path) for paths in files.values() for path in paths}
    sources = {args.sources: read_lines(args.sources)} if args.sources else {}
    check_same_length({**dict(zip(args.references, references, strict=True)), **sources, **texts})
    systems = {name: [texts[path] for path in paths] for name, paths in files.items()}
    metrics = {name: METRICS[name](references, args) for name in args.metrics if name != "comet"}
    if "comet" in args.metrics:
        if not sources:
            raise UserError("COMET also needs the source sentences; give them with --sources")
        metrics |= comet_metrics(args.comet_models or COMET_MODELS, sources[args.sources], references[0])
    found = scores.score_systems(systems, metrics, args.baseline, samples, trials)
    if args.format == "json":
        print(json.dumps([score.as_dict() for score in found], indent=1))
        return
    digits = {name: COMET_DIGITS if isinstance(metric, SegmentMean) else 2 for name, metric in metrics.items()}
    print(FORMATS[args.format](scores.as_table(found, digits)))
    if args.format == "text":
        print(*_footnotes(systems, metrics), sep="\n")
        if args.baseline:
            print(
                f"p: paired bootstrap ({samples} samples) / approximate randomisation ({trials} trials) against "
                f"{args.baseline}; ** p < 0.01, * p < 0.05 in both"
            )


def _check_flags(args: argparse.Namespace) -> None:
    """Raise UserError if a number is too small, or if a flag has no effect without another one."""
    samplings = {"--bootstrap-samples": args.bootstrap_samples, "--randomisation-trials": args.randomisation_trials}
    for flag, number in samplings.items():
        if number is not None:
            AT_LEAST_1.check(flag, number)
    needed = {
        "--comet-models": (args.comet_models, "comet" in args.metrics, "--metrics comet"),
        "--moses": (args.moses, "multi-bleu" in args.metrics, "--metrics multi-bleu"),
        **{flag: (number, args.baseline, "--baseline") for flag, number in samplings.items()},
    }
    for flag, (given, has_effect, other) in needed.items():
        if given and not has_effect:
            raise UserError(f"{flag} has no effect without {other}; add {other}, or leave out {flag}")


def _footnotes(systems: dict[str, scores.Runs], metrics: dict[str, Metric]) -> list[str]:
    notes = ["", *(f"{name}: {metric.get_signature()}" for name, metric in metrics.items())]
    if "multi-bleu" in metrics:
        for system, runs in systems.items():
            notes += [
                f"{system}: {as_multi_bleu(metrics['multi-bleu'].corpus_score(run, references=None))}" for run in runs
            ]
    return notes
