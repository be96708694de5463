"""Which tokens of a translation are the teacher's first choice (the probing data of the TIE-KD paper)."""

import numpy
import torch
from fairseq import utils
from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask

from nmt_kd.data import batches_by_tokens
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.teacher import Teacher


def first_choices(
    task: FairseqTask, models: list, dataset: FairseqDataset, translations: dict[int, str], max_tokens: int
) -> dict[int, str]:
    """Return for each sentence a string of "1" and "0", one for each token of its translation and the end.

    "1" means that the token is the most probable one under teacher forcing on the translation. `translations` are
    subwords by sentence number, and `max_tokens` limits the batches.
    """
    teacher = Teacher(models, fingerprint="")
    like = next(models[0].parameters())
    encode = task.target_dictionary.encode_line
    targets = {number: encode(text, add_if_not_exist=False).long() for number, text in translations.items()}
    numbers = numpy.array(list(translations), dtype=numpy.int64)  # empty if all sources are too long
    lengths = numpy.zeros(int(numbers.max(initial=-1)) + 1, dtype=numpy.int64)
    for number, target in targets.items():
        lengths[number] = max(len(target), dataset.src_sizes[number])
    marks = {}
    for batch in batches_by_tokens(lengths, numbers[numpy.argsort(-lengths[numbers])], max_tokens, None):
        items = [{**dataset[number], "target": targets[int(number)]} for number in batch]
        sample = dataset.collater(items)
        if like.is_cuda:
            sample = utils.move_to_cuda(sample)
        target = sample["target"]
        token_index = target_token_index(target, task.target_dictionary.pad())
        with torch.no_grad():
            chosen = teacher.read(sample, token_index, like).first_choices()
        equal = torch.full_like(target, -1).flatten()
        equal[token_index] = (chosen == target.flatten()[token_index]).long()
        for number, row in zip(sample["id"].tolist(), equal.view_as(target).tolist(), strict=True):
            marks[number] = "".join(str(mark) for mark in row if mark >= 0)
    return marks
