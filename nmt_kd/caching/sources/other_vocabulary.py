"""A fairseq checkpoint, or an ensemble, with other subwords and other dictionaries than the student's.

Its predictions are mapped to the student's subwords wherever both start one at the same character.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.other_vocabulary import ForeignTeacher, RespellingSource, StudentVocabulary, fairseq_texts
from nmt_kd.caching.respelling import TopWords
from nmt_kd.caching.spelling import Spelled, sentence_texts
from nmt_kd.checkpoints.dictionaries import check_dictionaries
from nmt_kd.checkpoints.reading import file_hash, read_model
from nmt_kd.checkpoints.task import task_of_data, translation_task_on
from nmt_kd.engine.chunks import chunk_slices, default_chunk_tokens
from nmt_kd.engine.models import target_token_index
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1, option
from nmt_kd.subword_model import SubwordModel

DATA, SUBWORDS = "--other-vocabulary-data", "--other-vocabulary-subwords"


@dataclass
class Options:
    """The options of a teacher with another vocabulary."""

    other_vocabulary_data: str = option("", "folder with the teacher's dictionaries, dict.*.txt")
    other_vocabulary_subwords: str = option("", "sentencepiece model or BPE codes of the teacher")
    other_vocabulary_target_subwords: str = option("", "those of the teacher's target side, if different")
    other_vocabulary_student_subwords: str = option(
        "", "sentencepiece model or BPE codes that split the student's target text"
    )
    other_vocabulary_words: int = option(16, "words of the teacher to map at each position", AT_LEAST_1)


def open_source(data: str, teacher_path: str, options: Options) -> tuple[FairseqTask, RespellingSource]:
    """Return the translation task on `data`, and the teacher; UserError if a file is missing or does not fit."""
    for given, flag, what in (
        (options.other_vocabulary_data, DATA, "folder with the teacher's dictionaries"),
        (options.other_vocabulary_subwords, SUBWORDS, "subword model of the teacher"),
    ):
        if not given:
            raise UserError(f"the {what} is needed; give it as {flag}")
    task = task_of_data(data)
    student = StudentVocabulary(task, options.other_vocabulary_student_subwords, "--other-vocabulary-student-subwords")
    teacher = CheckpointTeacher(teacher_path, options, task)
    return task, RespellingSource(teacher, student, options.other_vocabulary_words)


class CheckpointTeacher(ForeignTeacher):
    """A fairseq checkpoint, or an ensemble, with a subword model for each side."""

    def __init__(self, teacher_path: str, options: Options, student: FairseqTask):
        path = Path(teacher_path.split(":")[0])
        state = read_model(path)
        self.task = translation_task_on(path, state["cfg"], options.other_vocabulary_data)
        check_dictionaries(path, state, self.task, f"give {DATA} the folder it was trained on")
        pair, students = ((task.cfg.source_lang, task.cfg.target_lang) for task in (self.task, student))
        if pair != students:
            raise UserError(
                f"teacher {path} translates {'-'.join(pair)}, but the student is trained on {'-'.join(students)}; "
                "give a teacher of the same direction"
            )
        self.model = Teacher.load(teacher_path, self.task)
        source = Path(options.other_vocabulary_subwords)
        target = Path(options.other_vocabulary_target_subwords or source)
        self.fingerprint = f"{self.model.fingerprint} {file_hash(source)} {file_hash(target)}"
        self.split_source, subwords = SubwordModel.read(source).splitter(), SubwordModel.read(target)
        self.split_target, self.marks = subwords.splitter(), subwords.kind
        self.dictionary: Dictionary = self.task.target_dictionary
        self.texts, self.unknown = fairseq_texts(self.dictionary, self.marks), self.dictionary.unk()

    def max_positions(self) -> tuple[int, int]:
        return self.model.max_positions()

    def read_source(self, text: str) -> list[int]:
        dictionary = self.task.source_dictionary
        return [*(dictionary.index(symbol) for symbol in self.split_source(text).split()), dictionary.eos()]

    def read_target(self, text: str) -> Spelled:
        symbols = self.split_target(text).split()
        tokens = [*(self.dictionary.index(symbol) for symbol in symbols), self.dictionary.eos()]
        return Spelled(tokens, sentence_texts(symbols, self.marks))

    def top(self, sources: list[list[int]], targets: list[Spelled], words: int, like: Tensor) -> TopWords:
        items = [
            {"id": number, "source": torch.tensor(source), "target": torch.tensor(target.tokens)}
            for number, (source, target) in enumerate(zip(sources, targets, strict=True))
        ]
        dataset = self.task.build_dataset_for_inference([each["source"] for each in items], list(map(len, sources)))
        sample = dataset.collater(items)
        if like.is_cuda:
            sample = utils.move_to_cuda(sample)
        token_index = target_token_index(sample["target"], self.dictionary.pad())
        predictions, size = self.model.read(sample, token_index, like), len(self.dictionary)
        found = [
            predictions.predict(rows).coarse(min(words, size))
            for rows in chunk_slices(len(token_index), default_chunk_tokens(size, like.device))
        ]
        return TopWords.of(found)[_in_order(sample["id"].tolist(), [len(target.tokens) for target in targets])]


def _in_order(numbers: list[int], lengths: list[int]) -> list[int]:
    """Return the rows of all subwords of sentences 0, 1, ..., which come in the order of `numbers`."""
    rows, start = {}, 0
    for number in numbers:
        rows[number], start = range(start, start + lengths[number]), start + lengths[number]
    return [row for number in range(len(lengths)) for row in rows[number]]
