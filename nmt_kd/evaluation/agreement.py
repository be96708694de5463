"""Compare two models under teacher forcing, with the measures of the TIE-KD paper (Zhang et al., 2023)."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from fairseq import utils
from torch import Tensor

from nmt_kd.checkpoints.reading import read_model
from nmt_kd.checkpoints.task import task_on
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.evaluation.agreement_measures import (
    COUNTS,
    Bounds,
    BucketSums,
    Grouping,
    compare_models,
    frequency_ranks,
    groupings,
)
from nmt_kd.evaluation.calibration import CalibrationSums
from nmt_kd.options import AT_LEAST_1, require
from nmt_kd.progress import Progress
from nmt_kd.workers import precision_on

STUDENT_CORRECT, TEACHER_CORRECT = COUNTS.index("student_correct"), COUNTS.index("teacher_correct")


@dataclass(frozen=True)
class Measures:
    """The measures of a set of target tokens, </s> included and padding excluded.

    Shares are in %; means and shares are None for an empty set. `teacher_agreement` is the share of tokens for which
    both models have the same first choice (TA in the paper). An accuracy is the share of tokens whose reference is the
    model's first choice (for the teacher, the overlap with the reference in the paper's Table 1). Distances are means
    over tokens: `edit_distance` is the Levenshtein distance between the two top-k lists, from 0 to k;
    `ranking_distance` is the number of places by which the student moves each of the teacher's top k symbols, at most
    k, averaged over these symbols.
    """

    teacher_agreement: float | None
    tokens: int
    agreeing: int
    share: float | None  # of all tokens
    edit_distance: float | None
    ranking_distance: float | None
    teacher_accuracy: float | None
    student_accuracy: float | None


@dataclass(frozen=True)
class Agreement:
    """The measures over all target tokens and over each bucket.

    The calibration errors are those over all tokens, in %: they have bins of their own, by the model's confidence.
    """

    top_k: int
    total: Measures
    buckets: dict[Grouping, dict[str, Measures]]  # the inner keys are bucket labels
    student_calibration_error: float | None
    teacher_calibration_error: float | None

    def as_dict(self) -> dict:
        """Return the overall measures by name, `top_k`, and `buckets`, nested as grouping, bucket label, measure."""
        buckets = {
            grouping.name: {label: asdict(measures) for label, measures in found.items()}
            for grouping, found in self.buckets.items()
        }
        return {
            **asdict(self.total),
            "student_calibration_error": self.student_calibration_error,
            "teacher_calibration_error": self.teacher_calibration_error,
            "top_k": self.top_k,
            "buckets": buckets,
        }


def measure_agreement(
    student_path: str,
    teacher_path: str,
    data: str,
    subset: str,
    max_tokens: int,
    top_k: int = 5,
    bounds: Bounds | None = None,
    fp16: bool | None = None,
) -> Agreement:
    """Compare two models at every target token of a binarised data set.

    Each path names one checkpoint, or several separated by ":" (an ensemble). Runs on a GPU if there is one,
    and by default in half precision there (`fp16`); reports progress on standard error. Raises UserError if the models
    do not match each other or the data.
    """
    checkpoint = student_path.split(":")[0]
    task = task_on(checkpoint, read_model(checkpoint)["cfg"], data)
    dictionary = task.target_dictionary
    require(1 <= top_k <= len(dictionary), "--top-k", top_k, f"from 1 to {len(dictionary)}, the size of the vocabulary")
    AT_LEAST_1.check("--max-tokens", max_tokens)
    task.load_dataset(subset)
    models = [Teacher.load(path, task) for path in (student_path, teacher_path)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    like = torch.zeros((), device=device, dtype=precision_on(device, fp16))
    ranks = frequency_ranks(dictionary).to(device)
    sums = BucketSums(groupings(bounds or Bounds(), len(dictionary) - dictionary.nspecial), device)
    calibration = CalibrationSums(len(models), device)
    with torch.no_grad():
        for sample in _batches(task, subset, max_tokens, models):
            sample = utils.move_to_cuda(sample) if device.type == "cuda" else sample
            source, target = sample["net_input"]["src_tokens"], sample["target"]
            token_index = target_token_index(target, dictionary.pad())
            gold = target.flatten()[token_index]
            student, teacher = (model.read(sample, token_index, like) for model in models)
            counts, confidence = compare_models(student, teacher, gold, top_k)
            sentence = token_index // target.size(1)
            numbers = {
                "teacher_confidence": confidence[:, 1],
                "source_length": source.ne(task.source_dictionary.pad()).sum(1)[sentence],
                "target_length": target.ne(dictionary.pad()).sum(1)[sentence],
                "frequency_rank": ranks[gold],
            }
            sums.add(counts, numbers)
            calibration.add(confidence, counts[:, [STUDENT_CORRECT, TEACHER_CORRECT]])
    return summarise(sums, top_k, calibration)


def _batches(task, subset: str, max_tokens: int, models: list[Teacher]) -> Iterator[dict]:
    dataset = task.dataset(subset)
    if len(dataset) == 0:
        raise UserError(f"{subset} of {task.cfg.data} has no sentences; choose another with --gen-subset")
    max_positions = utils.resolve_max_positions(task.max_positions(), *(model.max_positions() for model in models))
    try:
        batches = task.get_batch_iterator(
            dataset, max_tokens=max_tokens, max_positions=max_positions, ignore_invalid_inputs=True
        ).next_epoch_itr(shuffle=False)
    except AssertionError as error:
        if "max_tokens" not in str(error):
            raise
        raise UserError(
            f"--max-tokens is {max_tokens}, too few for the longest sentence of {subset}; raise it"
        ) from None
    if len(batches) == 0:
        raise UserError(
            f"every sentence of {subset} is longer than the models' maximum source and target lengths {max_positions}; "
            "choose another subset with --gen-subset"
        )
    progress = Progress(len(batches), "batches", subset)
    for sample in batches:
        yield sample
        progress.add(1)


def summarise(sums: BucketSums, top_k: int, calibration: CalibrationSums) -> Agreement:
    """Turn the sums into measures, for lists of `top_k` symbols; `calibration` is that of student and teacher."""
    tokens = int(sums.total[0])
    buckets = {
        grouping: {
            label: _measures(row, tokens, top_k)
            for label, row in zip(grouping.labels, sums.sums[grouping.name], strict=True)
        }
        for grouping in sums.groupings
    }
    return Agreement(top_k, _measures(sums.total, tokens, top_k), buckets, *calibration.errors())


def _measures(row: Tensor, all_tokens: int, top_k: int) -> Measures:
    counts = dict(zip(COUNTS, row.tolist(), strict=True))

    def ratio(count: int, of: int) -> float | None:
        return count / of if of else None

    tokens, agreeing = counts["tokens"], counts["agreeing"]
    return Measures(
        teacher_agreement=ratio(100 * agreeing, tokens),
        tokens=tokens,
        agreeing=agreeing,
        share=ratio(100 * tokens, all_tokens),
        edit_distance=ratio(counts["edits"], tokens),
        ranking_distance=ratio(counts["displacement"], top_k * tokens),
        teacher_accuracy=ratio(100 * counts["teacher_correct"], tokens),
        student_accuracy=ratio(100 * counts["student_correct"], tokens),
    )
