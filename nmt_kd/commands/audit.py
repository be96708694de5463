"""Measure what distillation costs: memorised training targets, hallucinations, and robustness to noise.

Every system translates a sample of its training sources, spread evenly over the files. An exact match is a source whose
translation is its training target. It is memorised extractively if a prefix of at most 75 % of its words is already
translated as the whole target (Dankers and Raunak, 2025). With --test-sources, every system also translates a test set:
an oscillatory hallucination is a translation whose most frequent bigram occurs more than 10 times, and at least 5 times
more than the most frequent one of its source; a repeated 4-gram occurs at least 2 more times than the most frequent
4-gram of the source (Raunak et al., 2021). With --test-references, BLEU and chrF are measured too and, with noise, how
far they drop.

Several checkpoints under one name are several runs of one system; their mean and standard deviation are shown. With a
baseline, each share is followed by its ratio to the baseline's, and tested with the exact McNemar test over the
sentences: ** means p < 0.01, * means p < 0.05; --format json has the p-values. Systems are named as nmt-kd decode
--teacher names them.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from nmt_kd.decoding.noise import Noise
from nmt_kd.errors import UserError
from nmt_kd.evaluation.audit_report import as_dict, as_table, compare_audits
from nmt_kd.evaluation.audited import Material, audit_systems, spread
from nmt_kd.evaluation.named_runs import check_baseline, named_runs
from nmt_kd.evaluation.tables import FORMATS
from nmt_kd.evaluation.texts import check_same_length, read_lines
from nmt_kd.options import AT_LEAST_1, add_flags, check_options, values_of
from nmt_kd.translators.arguments import add_translator_flags
from nmt_kd.translators.search import Search
from nmt_kd.translators.translator import TeacherOptions

EXAMPLE = (
    "nmt-kd audit --systems plain=plain.pt seq_kd=seq_kd.pt --data data-bin --subword-model subwords.model "
    "--sources train.en --references train.de --test-sources test.en --baseline plain"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--systems", nargs="+", required=True, metavar="NAME=CHECKPOINT", help="models; repeat a name for several runs"
    )
    add_translator_flags(parser, "systems")
    parser.add_argument("--sources", type=Path, required=True, help="sources of the training set, as text")
    parser.add_argument(
        "--references", type=Path, required=True, help="targets of the original training set, before distillation"
    )
    parser.add_argument(
        "--sentences", type=int, default=2000, help="number of training pairs in the sample (default: %(default)s)"
    )
    parser.add_argument("--test-sources", type=Path, help="sources of a test set, to look for hallucinations")
    parser.add_argument("--test-references", type=Path, help="references of the test set, to measure BLEU and chrF")
    parser.add_argument("--baseline", metavar="NAME", help="system to compare the others with")
    parser.add_argument("--beam", type=int, default=1, help="beam size (default: %(default)s, as in the papers)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the noise (default: %(default)s)")
    parser.add_argument(
        "--format", choices=[*FORMATS, "json"], default="text", help="format of the output (default: %(default)s)"
    )
    add_flags(parser.add_argument_group("noise on the test sources"), Noise)


def run(args: argparse.Namespace) -> None:
    systems = named_runs(args.systems, "CHECKPOINT")
    check_baseline(systems, args.baseline)
    AT_LEAST_1.check("--sentences", args.sentences)
    material = _material(args)
    search = Search(beam=args.beam, lenpen=args.lenpen, max_len=args.max_len)
    options = TeacherOptions(teacher="", search=search, **values_of(TeacherOptions, args))
    audit = compare_audits(audit_systems(systems, options, material), args.baseline)
    if args.format == "json":
        sample = {"training_pairs": len(material.pairs), "test_sentences": len(material.test_sources)}
        print(json.dumps({**sample, "baseline": args.baseline, "systems": as_dict(audit)}, indent=1))
        return
    print(FORMATS[args.format](as_table(audit)))
    if args.format == "text":
        print(*_footnotes(args, material), sep="\n")


def _material(args: argparse.Namespace) -> Material:
    noise = Noise(**values_of(Noise, args))
    check_options(asdict(noise), Noise)
    is_noisy = bool(noise.settings(args.seed))
    if args.test_references and not args.test_sources:
        raise UserError("--test-references needs the sources of the test set; give them with --test-sources")
    if is_noisy and not args.test_references:
        raise UserError("noise needs a test set to measure what it costs; give --test-sources and --test-references")
    training = {path: read_lines(path) for path in (args.sources, args.references)}
    check_same_length(training)
    test = {path: read_lines(path) for path in (args.test_sources, args.test_references) if path}
    if test:
        check_same_length(test)
    pairs = list(zip(training[args.sources], training[args.references], strict=True))
    sources = test.get(args.test_sources, [])
    noised = [noise(text.strip(), args.seed, number) for number, text in enumerate(sources)] if is_noisy else []
    return Material(spread(pairs, args.sentences), sources, test.get(args.test_references, []), noised)


def _footnotes(args: argparse.Namespace, material: Material) -> list[str]:
    notes = ["", f"{len(material.pairs):,} training pairs, {len(material.test_sources):,} test sentences"]
    if args.baseline:
        notes.append(f"in parentheses: the ratio to {args.baseline}; ** p < 0.01, * p < 0.05 (exact McNemar test)")
    return notes
