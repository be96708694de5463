"""The notes below the table of the summary, which say how to read its figures."""

import os
import platform

import torch

from nmt_kd.evaluation.tables import number
from nmt_kd.exporting.comparison import TranslationComparison
from nmt_kd.exporting.faithfulness import LARGEST_LOSS, losses
from nmt_kd.exporting.portability import CPU_INFO, has_vnni
from nmt_kd.exporting.sample import Measurement, Sample
from nmt_kd.exporting.summary import Result


def notes_on_figures(measurement: Measurement, sample: Sample, comparison: TranslationComparison) -> list[str]:
    """Return notes on what was translated and how it was measured."""
    dataset, cfg = sample.originals.dataset, sample.originals.task.cfg
    rounds = f" in {measurement.rounds} rounds (speeds are medians)" if measurement.rounds > 1 else ""
    threads = "1 CPU thread" if measurement.threads == 1 else f"{measurement.threads} CPU threads"
    notes = [
        f"All systems took turns{rounds} translating {len(sample.numbers):,} of the {len(dataset):,} sentences of "
        f"{measurement.gen_subset} in {cfg.data}: beam {measurement.beam}, length penalty {measurement.lenpen}, "
        f"batches of up to {measurement.max_tokens:,} source tokens, {threads}.",
        "Words are those of the sources. Tokens are subwords of the translations, including the end of each sentence. "
        "Times exclude splitting text into subwords. Loading times are with files in the system's cache and exclude "
        "importing libraries. The time of one sentence is the median over sentences translated alone.",
        f"On text with subwords joined, BLEU: {comparison.signatures['bleu']}, chrF: {comparison.signatures['chrf']}.",
        "A translation is as good as fairseq's if it is identical or differs only by rounding: CTranslate2 scores it "
        "and fairseq's translation as fairseq does, and fairseq, on weights stored in the same precision, scores it at "
        "least as high as what it finds itself. For types other than float32 and float16, only the latter is "
        "compared, on fairseq's own weights.",
    ]
    if sample.too_long:
        notes.append(f"{sample.too_long:,} sentences are too long for the models and were left out.")
    unknown = sum("<unk>" in line.split(" ") for line in sample.references)
    if unknown:
        notes.append(f"{unknown:,} references contain unknown symbols, which lowers every BLEU score.")
    at_the_limit = len(sample.numbers) - len(comparison.comparable)
    if at_the_limit:
        notes.append(
            f"{at_the_limit:,} of fairseq's translations did not end within {sample.longest_translation} tokens and do "
            "not count towards the percentages."
        )
    return notes


def notes_on_models(results: list[Result]) -> list[str]:
    """Return notes on sizes, and on models that are not computed in the type they are stored in."""
    import ctranslate2

    alone = ", ".join(
        f"{number(4 * result.parameters / 1e6)} MB ({result.system.partition(',')[0]})"
        for result in results
        if not result.converted_to
    )
    notes = [
        "A fairseq checkpoint also holds the state of its training; the parameters alone take "
        f"{alone} in float32. The size of a CTranslate2 model includes its vocabulary."
    ]
    available = ", ".join(sorted(ctranslate2.get_supported_compute_types("cpu")))
    for result in results:
        stored, computed = result.converted_to, result.computed_in
        same = f"{computed}_".startswith(f"{stored}_")  # int8 is short for int8_float32
        if stored and not same and not result.shortlist:
            notes.append(
                f"The {stored} model is computed in {computed} here, because on this CPU CTranslate2 supports only "
                f"{available}; its speed and translations are those of {computed} arithmetic."
            )
    return notes


def notes_on_quality(results: list[Result]) -> list[str]:
    """Return a note on how int8 was measured, and one for each model that loses too much."""
    notes = []
    if any(result.bleu_change_without_vnni is not None for result in results):
        here = "has VNNI" if has_vnni() else "has no VNNI either"
        notes.append(
            "int8 was also measured in a process limited to AVX2, as on CPUs without VNNI, whose int8 products are "
            f"computed differently (this CPU {here})."
        )
    for result in results:
        lost = losses(result)
        if lost:
            notes.append(
                f"{result.system} loses {', '.join(lost)}, more than {LARGEST_LOSS} (a loss on few sentences may "
                "be chance; --sentences 0 measures all)."
            )
    return notes


def machine() -> str:
    """Return the CPU and the versions of the libraries."""
    import ctranslate2

    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores; torch {torch.__version__}, CTranslate2 {ctranslate2.__version__}"
