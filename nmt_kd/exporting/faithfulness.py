"""Decide whether a converted model translates as fairseq does.

Comparing texts is not enough. The scores of hypotheses in a beam often differ by no more than rounding, of stored
weights or of sums. The search may then keep a different hypothesis and end with a translation whose score is clearly
different. So a translation that differs is as good as fairseq's if both of these are true:

- The model is the same: CTranslate2 gives both translations the scores that fairseq gives them under forced decoding.
- The search is as good: fairseq scores the translation at least as high as the one that it finds itself.

Both checks tolerate only the rounding of sums. The rounding of stored weights is reproduced instead: a float16 model is
compared with fairseq running on weights rounded to float16, and that rounding may change fairseq's own scores only by
as much as float16 explains.
"""

import math
from collections.abc import Callable

import numpy
import torch

from nmt_kd.errors import UserError
from nmt_kd.exporting.summary import Result
from nmt_kd.exporting.systems import MeasuredSystem, token_count

LEAST_AS_GOOD = 95  # percent; of float32 and float16
LARGEST_LOSS = 0.2  # of BLEU and of chrF, in other types, before a warning

# How far rounding moves the log-probability of a token, in nats. Logits that matter lie within about 32 of each other.
# float32: 24 bits, so each product and each sum is off by up to 2^-24 of its size. The errors of a sum of 4,096 terms,
# as in a wide feed-forward layer, add up like a random walk, to 64 times as much: 32 * 64 * 2^-24 = 2^-13.
# float16: 11 bits, so each stored weight is off by up to 2^-11 of its size, independently of the others, and each logit
# by about as much of its size: 32 * 2^-11 = 2^-6.
# Measured on models of 8,512 and 965,632 parameters: at most 5e-6 in float32 and 3e-3 in float16 (int8: 8e-2).
ROUNDING = {"float32": 2**-13, "float16": 2**-6}


def as_good(
    converted: MeasuredSystem,
    fairseq: MeasuredSystem,
    fairseq_rounded: Callable[[torch.dtype], MeasuredSystem],
    numbers: numpy.ndarray,
    translations: list[str],
    of_fairseq: list[str],
    lenpen: float,
) -> list[bool]:
    """Return for each sentence whether a converted model's translation, which differs, is as good as fairseq's.

    `numbers` are the sentences, longest source first; `translations` and `of_fairseq` what both systems found for
    them; `fairseq_rounded` returns fairseq's system with its weights rounded to a type.

    Types other than float32 and float16 have no known rounding; for them only the search is compared, by the scores
    of fairseq's own weights.
    """
    reference, best = fairseq, of_fairseq
    if converted.converted_to == "float16":
        reference = fairseq_rounded(torch.float16)
        best = reference.translate(numbers)
    lengths = numpy.array([max(map(token_count, texts)) for texts in zip(translations, of_fairseq, best, strict=True)])
    tokens = lengths ** (1 - lenpen)  # a score is a sum over tokens, divided by length to the power of lenpen
    in_storage = ROUNDING.get(str(converted.converted_to), math.inf) * tokens
    in_arithmetic = ROUNDING.get(converted.computed_in, math.inf) * tokens
    if converted.converted_to not in ROUNDING:
        in_arithmetic = in_storage  # the unknown rounding of the weights hides that of the sums
    same_model = numpy.full(len(tokens), True)
    for texts in (translations, of_fairseq):
        scores = [numpy.array(system.score(numbers, texts)) for system in (converted, reference, fairseq)]
        same_model &= numpy.isfinite(scores).all(axis=0)  # an infinite score: fairseq cannot produce the text
        with numpy.errstate(invalid="ignore"):
            same_model &= abs(scores[0] - scores[1]) <= in_arithmetic
            same_model &= abs(scores[1] - scores[2]) <= in_storage
    found, own = (numpy.array(reference.score(numbers, texts)) for texts in (translations, best))
    return (same_model & (found >= own - ROUNDING["float32"] * tokens)).tolist()


def check_faithful(checkpoint: str, compute_type: str, as_good_percent: float | None) -> None:
    """Raise UserError if a float32 or float16 model has too few translations as good as fairseq's.

    `as_good_percent` is None where no translation could be compared.
    """
    if compute_type in ROUNDING and as_good_percent is not None and as_good_percent < LEAST_AS_GOOD:
        raise UserError(
            f"CTranslate2's {compute_type} model of {checkpoint} translates only {as_good_percent:.1f} % of the "
            f"sentences as well as fairseq does, less than {LEAST_AS_GOOD} %, so its conversion is wrong; nothing is "
            "exported, keep using fairseq"
        )


def losses(result: Result) -> list[str]:
    """Return what a system loses by more than `LARGEST_LOSS`.

    float32 and float16 without a shortlist are held to a stricter standard, so they are not examined here.
    """
    if result.converted_to is None or (result.converted_to in ROUNDING and not result.shortlist):
        return []
    changes = {
        "BLEU": result.bleu_change,
        "chrF": result.chrf_change,
        "BLEU on CPUs without VNNI": result.bleu_change_without_vnni,
        "chrF on CPUs without VNNI": result.chrf_change_without_vnni,
    }
    return [
        f"{-change:.2f} {name}" for name, change in changes.items() if change is not None and change < -LARGEST_LOSS
    ]


def recommended(results: list[Result]) -> Result:
    """Return the smallest exported model that loses little, or, if all lose more, the largest.

    Its shortlist is used if that loses little too.
    """
    converted = [result for result in results if result.converted_to and not result.shortlist]
    converted.sort(key=lambda result: result.megabytes_on_disk)
    best = next((result for result in converted if not losses(result)), converted[-1])
    same = (result for result in results if result.converted_to == best.converted_to and result.shortlist)
    return next((result for result in same if not losses(result)), best)
