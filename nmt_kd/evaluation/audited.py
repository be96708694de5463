"""The measures of an audit, and the texts that every system translates for it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nmt_kd.errors import UserError
from nmt_kd.evaluation.memorisation import Translate, memorised
from nmt_kd.evaluation.metrics import bleu_and_chrf
from nmt_kd.evaluation.oscillation import BIGRAMS, FOUR_GRAMS
from nmt_kd.progress import Progress
from nmt_kd.translators.opening import open_translator
from nmt_kd.translators.translator import TeacherOptions, Translator

logger = logging.getLogger(__name__)

BLOCK = 500  # sentences translated between two reports of the progress


@dataclass(frozen=True)
class Material:
    """The texts that every system translates."""

    pairs: list[tuple[str, str]]  # of the training set
    test_sources: list[str]
    test_references: list[str]  # empty if there are none
    noised_sources: list[str]  # the test sources with noise; empty if there is none


@dataclass(frozen=True)
class AuditedRun:
    """What was found about one run of a system."""

    outcomes: dict[str, list[bool]]  # for each measure, whether each sentence has the property
    eligible: int  # exact matches in which extractive memorisation was looked for
    scores: dict[str, float]  # BLEU and chrF of the test set, by the name of the measure


def audit_systems(
    systems: dict[str, list[str]], options: TeacherOptions, material: Material
) -> dict[str, list[AuditedRun]]:
    """Measure every run of every system, named as `--teacher` of nmt-kd decode names one.

    `options` are those of all systems, apart from the name. Raises UserError if a run cannot be opened.
    """
    each = {name: [replace(options, teacher=run) for run in runs] for name, runs in systems.items()}
    for options_of_run in (item for runs in each.values() for item in runs):
        open_translator(options_of_run)  # so that wrong input shows before anything is translated
    return {
        name: [_opened_and_audited(run, f"{name}, run {number}", material) for number, run in enumerate(runs, 1)]
        for name, runs in each.items()
    }


def _opened_and_audited(options: TeacherOptions, name: str, material: Material) -> AuditedRun:
    translator = open_translator(options)
    audited = audit_run(translating(translator, name), material)
    for what, count in translator.counts.items():
        if count:
            logger.warning(f"{name}: {what}: {count:,}")
    return audited


def spread(pairs: Sequence[tuple[str, str]], sentences: int) -> list[tuple[str, str]]:
    """Return this many pairs, or all if there are fewer, spread evenly over those without an empty side.

    Raises UserError if there is no such pair.
    """
    usable = [(source, target) for source, target in pairs if source.strip() and target.strip()]
    if not usable:
        raise UserError("--sources and --references have no pair of lines that are both not empty; give other files")
    wanted = min(sentences, len(usable))
    return [usable[number * len(usable) // wanted] for number in range(wanted)]


def translating(translator: Translator, name: str) -> Callable[[Sequence[str]], list[str]]:
    """Return a function that translates texts with a system; it translates each distinct text once.

    A text that is empty, or too long for the system, has an empty translation.
    """
    known: dict[str, str] = {}

    def translate(texts: Sequence[str]) -> list[str]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        readable = [text for text in new if text.strip() and translator.length(text) <= translator.longest_source]
        known.update(dict.fromkeys(new, ""))
        if too_long := sum(1 for text in new if text.strip()) - len(readable):
            logger.warning(f"{name}: sentences too long to translate, counted as empty translations: {too_long:,}")
        progress = Progress(len(readable), "sentences", name)
        for start in range(0, len(readable), BLOCK):
            block = readable[start : start + BLOCK]
            for text, hypotheses in zip(block, translator.translate(block, 1), strict=True):
                known[text] = hypotheses[0].text if hypotheses else ""
            progress.add(len(block))
        return [known[text] for text in texts]

    return translate


def audit_run(translate: Translate, material: Material) -> AuditedRun:
    """Measure one run of a system, whose translations `translate` returns."""
    found = memorised(material.pairs, translate)
    outcomes = {"exact_match": found.exact, "extractive_memorisation": found.extractive}
    scores = {}
    if material.test_sources:
        translations = translate(material.test_sources)
        both = list(zip(material.test_sources, translations, strict=True))
        outcomes["oscillatory_hallucination"] = [BIGRAMS.holds(*pair) for pair in both]
        outcomes["repeated_4_grams"] = [FOUR_GRAMS.holds(*pair) for pair in both]
        if material.test_references:
            scores = _scores(translations, material.test_references)
    if material.noised_sources:
        noised = _scores(translate(material.noised_sources), material.test_references)
        scores |= {f"{name}_noised": score for name, score in noised.items()}
        scores |= {f"{name}_loss": scores[name] - score for name, score in noised.items()}
    return AuditedRun(outcomes, sum(found.eligible), scores)


def _scores(translations: list[str], references: list[str]) -> dict[str, float]:
    metrics = bleu_and_chrf(references)
    return {name.lower(): metric.corpus_score(translations, None).score for name, metric in metrics.items()}
